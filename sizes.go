package tailrace

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/state"
)

// storeSize is the size of one store.
type storeSize struct {
	topology, store string
	state.Size
}

// sizes estimates how large the app's stores are, while it runs. A store that cannot be
// read is left out: the app itself says so.
func (a *App) sizes() (out []storeSize) {
	a.dirMu.RLock()
	defer a.dirMu.RUnlock()
	if a.dir == nil {
		return nil
	}
	for _, t := range a.topologies {
		stores, err := engine.SampleStores(a.dir, t.Name())
		if err != nil {
			continue
		}
		for name, size := range stores {
			out = append(out, storeSize{t.Name(), name, size})
		}
	}
	return out
}

// sizeCollector measures stores when it is asked for, so that nothing is counted while
// rows are written.
type sizeCollector func() []storeSize

var (
	stateBytes = prometheus.NewDesc("tailrace_state_bytes",
		"Size of a store, estimated.", []string{"topology", "store"}, nil)
	stateEntries = prometheus.NewDesc("tailrace_state_entries",
		"Entries of a store, estimated.", []string{"topology", "store"}, nil)
)

// Describe implements prometheus.Collector.
func (c sizeCollector) Describe(out chan<- *prometheus.Desc) {
	out <- stateBytes
	out <- stateEntries
}

// Collect implements prometheus.Collector.
func (c sizeCollector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c() {
		gauge := func(desc *prometheus.Desc, value int64) {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), s.topology, s.store)
		}
		gauge(stateBytes, s.Bytes)
		gauge(stateEntries, s.Entries)
	}
}

package tailrace

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailrace/tailrace/internal/engine"
)

// lags measures how far the views are behind each database, in direct mode.
func (a *App) lags() map[string]engine.Lag {
	a.mu.Lock()
	eng := a.engine
	a.mu.Unlock()
	if eng == nil {
		return nil
	}
	return eng.Lags()
}

// lagCollector measures lag when it is asked for, so that it grows while nothing happens.
type lagCollector func() map[string]engine.Lag

var (
	lagSeconds = prometheus.NewDesc("tailrace_source_lag_seconds",
		"How old what the views show is; 0 while they show all that is known of.", []string{"database"}, nil)
	lagBytes = prometheus.NewDesc("tailrace_replication_slot_lag_bytes",
		"Log between the views and the source's newest position.", []string{"database"}, nil)
	lagRecords = prometheus.NewDesc("tailrace_source_lag_records",
		"Row events that have been received and are not in the views yet.", []string{"database"}, nil)
)

// Describe implements prometheus.Collector.
func (c lagCollector) Describe(out chan<- *prometheus.Desc) {
	out <- lagSeconds
	out <- lagBytes
	out <- lagRecords
}

// Collect implements prometheus.Collector.
func (c lagCollector) Collect(out chan<- prometheus.Metric) {
	for database, l := range c() {
		gauge := func(desc *prometheus.Desc, value float64) {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, database)
		}
		gauge(lagRecords, float64(l.Rows))
		if l.Shown == 0 {
			continue // the first snapshot is on its way: see tailrace_snapshot_rows
		}
		gauge(lagSeconds, l.Behind.Seconds())
		if l.Head > 0 {
			gauge(lagBytes, float64(l.Head-min(l.Shown, l.Head)))
		}
	}
}

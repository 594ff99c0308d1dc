package tailrace

import (
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailrace/tailrace/changelog"
	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/topology"
)

// metrics are the app's Prometheus metrics. docs/metrics.md lists them; a test holds
// the two together. No metric has a key or a value of a row as a label.
type metrics struct {
	registry *prometheus.Registry

	registrar                   registrar
	transactions, rows, commits prometheus.Counter
	computeSeconds              prometheus.Histogram
	commitSeconds               prometheus.Histogram
	endToEnd                    prometheus.Histogram
	streamTime                  prometheus.Gauge
	dropped, wipes              *prometheus.CounterVec
	late, deadLetters, emitted  *prometheus.CounterVec
	nodeTime                    *prometheus.GaugeVec
	held                        *prometheus.GaugeVec
	degraded                    *prometheus.GaugeVec
	restored                    prometheus.Counter
	standbyLag                  *prometheus.GaugeVec
	sourceHead, sourcePosition  *prometheus.GaugeVec
	retainedBytes               *prometheus.GaugeVec
	reconnects                  *prometheus.CounterVec
	snapshotRows, snapshotTotal *prometheus.GaugeVec
	sinkLag, queueBytes         *prometheus.GaugeVec
	sinkEpochs, sinkRetries     *prometheus.CounterVec
	replayed                    *prometheus.CounterVec
}

// newMetrics makes and registers the metrics of an app; lags measures how far its views are
// behind, sizes how large its stores are.
func newMetrics(app string, lags func() map[string]engine.Lag, sizes func() []storeSize) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	r := registrar{prometheus.WrapRegistererWith(prometheus.Labels{"app": app}, m.registry)}
	m.registrar = r
	m.registerWork(r)
	m.registerSources(r)
	r.MustRegister(lagCollector(lags), sizeCollector(sizes))
	m.registerTargets(r)
	info := r.gauges("tailrace_build_info", "Always 1; the labels tell the version.", "version", "go")
	info.WithLabelValues(version(), runtime.Version()).Set(1)
	return m
}

// begin shows what there is of topologies, databases and targets before anything happens to
// them: an alert on a series that does not exist never fires.
func (m *metrics) begin(topologies []*topology.Topology, up *upCollector) {
	for _, t := range topologies {
		m.held.WithLabelValues(t.Name()).Set(0)
	}
	for _, name := range up.databases {
		m.reconnects.WithLabelValues(name)
	}
	for _, name := range up.targets {
		m.queueBytes.WithLabelValues(name).Set(0)
		m.sinkEpochs.WithLabelValues(name)
		m.sinkRetries.WithLabelValues(name)
		m.emitted.WithLabelValues(name)
	}
	m.registrar.MustRegister(up)
}

func (m *metrics) registerWork(r registrar) {
	m.transactions = r.counter("tailrace_transactions_processed_total",
		"Source transactions committed into the state.")
	m.rows = r.counter("tailrace_records_processed_total", "Row events committed into the state.")
	m.commits = r.counter("tailrace_commits_total", "Epochs committed.")
	m.computeSeconds = r.histogram("tailrace_process_seconds", "Time to compute one epoch.")
	m.commitSeconds = r.histogram("tailrace_commit_seconds", "Time to make one epoch durable and visible.")
	m.endToEnd = r.histogram("tailrace_end_to_end_seconds",
		"Time from a transaction's commit in the source to its visibility in the views, by the two clocks.")
	m.streamTime = r.gauge("tailrace_source_commit_time_seconds",
		"Commit time of the last transaction in the views, Unix seconds.")
	m.dropped = r.counters("tailrace_records_dropped_total",
		"Records that a rule dropped, such as late ones.", "topology", "node", "reason")
	m.late = r.counters("tailrace_late_records_total",
		"Records that came when what they take part in had closed.", "topology", "node")
	m.deadLetters = r.counters("tailrace_dead_letters_total",
		"Records that an error policy has set aside.", "topology", "node")
	m.nodeTime = r.gauges("tailrace_stream_time_seconds",
		"Stream time of a source node, Unix seconds.", "topology", "node")
	m.wipes = r.counters("tailrace_state_wipes_total",
		"Tasks whose local state was given up and restored from the start of its changelogs.", "reason")
	m.restored = r.counter("tailrace_restored_records_total",
		"Records of changelogs that tasks were restored from when they came to this member.")
	m.standbyLag = r.gauges("tailrace_standby_lag_records",
		"Offsets of its changelogs that the state of a task lacks that this member follows.", "task")
	m.held = r.gauges("tailrace_topology_held",
		"1 while a topology stands still before a transaction it cannot read.", "topology")
	m.degraded = r.gauges("tailrace_degraded_keys",
		"Keys of a table that its error policy has parked.", "topology", "node")
}

func (m *metrics) registerSources(r registrar) {
	m.sourceHead = r.gauges("tailrace_source_head_bytes",
		"Newest position of the source's log.", "database")
	m.sourcePosition = r.gauges("tailrace_source_position_bytes",
		"Position up to which the source is in the views.", "database")
	m.retainedBytes = r.gauges("tailrace_replication_slot_retained_bytes",
		"Log that the source keeps for this app.", "database")
	m.reconnects = r.counters("tailrace_source_reconnects_total",
		"Connections to the source that were lost and mended.", "database")
	m.snapshotRows = r.gauges("tailrace_snapshot_rows",
		"Rows of a table copied by the running or last snapshot.", "database", "table")
	m.snapshotTotal = r.gauges("tailrace_snapshot_estimated_rows",
		"Rows of a table by the source's estimate.", "database", "table")
}

func (m *metrics) registerTargets(r registrar) {
	m.sinkLag = r.gauges("tailrace_sink_commit_time_seconds",
		"Source commit time of the last epoch a target holds, Unix seconds.", "target")
	m.emitted = r.counters("tailrace_records_emitted_total",
		"Rows and events that were queued for a target.", "target")
	m.queueBytes = r.gauges("tailrace_sink_queue_bytes", "Bytes that wait for a target.", "target")
	m.sinkEpochs = r.counters("tailrace_sink_epochs_total", "Epochs that a target has taken.", "target")
	m.sinkRetries = r.counters("tailrace_sink_retries_total",
		"Attempts to write a target that failed and are repeated.", "target")
	m.replayed = r.counters("tailrace_events_replayed_total",
		"Events delivered again after state was lost or rebuilt, marked as replayed.", "target")
}

// registrar makes metrics and registers them.
type registrar struct{ prometheus.Registerer }

func (r registrar) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	r.MustRegister(c)
	return c
}

func (r registrar) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	r.MustRegister(c)
	return c
}

func (r registrar) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	r.MustRegister(g)
	return g
}

func (r registrar) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	r.MustRegister(g)
	return g
}

func (r registrar) histogram(name, help string) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 14),
	})
	r.MustRegister(h)
	return h
}

// Metrics returns the app's metrics, as /metrics serves them, for registries of your
// own.
func (a *App) Metrics() prometheus.Gatherer { return a.metrics.registry }

// version is the module's version as built.
func version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "unknown"
}

// Epoch implements engine.Observer.
func (m *metrics) Epoch(e engine.EpochStats) {
	m.commits.Inc()
	m.transactions.Add(float64(e.Transactions))
	m.rows.Add(float64(e.Rows))
	m.commitSeconds.Observe(e.Commit.Seconds())
	for name, at := range e.Positions {
		m.sourcePosition.WithLabelValues(name).Set(float64(at))
	}
	if e.Transactions == 0 {
		return
	}
	m.computeSeconds.Observe(e.Compute.Seconds())
	m.streamTime.Set(float64(e.CommitTime.UnixMicro()) / 1e6)
	if !e.Snapshot {
		m.endToEnd.Observe(max(0, time.Since(e.CommitTime).Seconds()))
	}
}

// Dropped implements engine.Observer.
func (m *metrics) Dropped(name, node, reason string, count int) {
	m.dropped.WithLabelValues(name, node, reason).Add(float64(count))
	switch reason {
	case topology.DropLate:
		m.late.WithLabelValues(name, node).Add(float64(count))
	case topology.DropDeadLetter:
		m.deadLetters.WithLabelValues(name, node).Add(float64(count))
	}
}

// Emitted implements engine.Observer.
func (m *metrics) Emitted(target string, items int) {
	m.emitted.WithLabelValues(target).Add(float64(items))
}

// StreamTime implements engine.Observer.
func (m *metrics) StreamTime(topology, node string, at time.Time) {
	m.nodeTime.WithLabelValues(topology, node).Set(float64(at.UnixMicro()) / 1e6)
}

// Wiped counts a task of Kafka mode whose local state was given up.
func (m *metrics) Wiped(_ string, reason changelog.Reason) {
	m.wipes.WithLabelValues(string(reason)).Inc()
}

// Restored counts what a task of Kafka mode was restored from.
func (m *metrics) Restored(_ string, records int64) { m.restored.Add(float64(records)) }

// Standby notes how far a task that this member follows is behind.
func (m *metrics) Standby(task string, lag int64) {
	m.standbyLag.WithLabelValues(task).Set(float64(lag))
}

// Delivered implements engine.Observer.
func (m *metrics) Delivered(target string, epochs int, commitTime time.Time) {
	m.sinkEpochs.WithLabelValues(target).Add(float64(epochs))
	m.sinkLag.WithLabelValues(target).Set(float64(commitTime.UnixMicro()) / 1e6)
}

// Queued implements engine.Observer.
func (m *metrics) Queued(target string, bytes int64) {
	m.queueBytes.WithLabelValues(target).Set(float64(bytes))
}

// TargetRetry implements engine.Observer.
func (m *metrics) TargetRetry(target string, _ error) { m.sinkRetries.WithLabelValues(target).Inc() }

// Replayed implements engine.Observer.
func (m *metrics) Replayed(target string, events int) {
	m.replayed.WithLabelValues(target).Add(float64(events))
}

// Held implements engine.Observer.
func (m *metrics) Held(topology string, _ error) { m.held.WithLabelValues(topology).Set(1) }

// Degraded implements engine.Observer.
func (m *metrics) Degraded(topology, node string, keys int) {
	m.degraded.WithLabelValues(topology, node).Set(float64(keys))
}

// Source implements engine.Observer.
func (m *metrics) Source(database string) sources.Observer {
	return &sourceMetrics{m: m, database: database}
}

// sourceMetrics measures one source.
type sourceMetrics struct {
	m        *metrics
	database string
}

// SnapshotProgress implements sources.Observer.
func (s *sourceMetrics) SnapshotProgress(table string, rows, estimate int64) {
	s.m.snapshotRows.WithLabelValues(s.database, table).Set(float64(rows))
	s.m.snapshotTotal.WithLabelValues(s.database, table).Set(float64(estimate))
}

// Lag implements sources.Observer.
func (s *sourceMetrics) Lag(head uint64, retained int64) {
	s.m.sourceHead.WithLabelValues(s.database).Set(float64(head))
	s.m.retainedBytes.WithLabelValues(s.database).Set(float64(retained))
}

// Disconnected implements sources.Observer: health tells, and the log.
func (s *sourceMetrics) Disconnected(error) {}

// Reconnected implements sources.Observer.
func (s *sourceMetrics) Reconnected(error) { s.m.reconnects.WithLabelValues(s.database).Inc() }

var _ engine.Observer = (*metrics)(nil)

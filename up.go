package tailrace

import (
	"github.com/prometheus/client_golang/prometheus"
)

// upCollector tells whether sources and targets can be reached, as /readyz does.
type upCollector struct {
	databases, targets []string
	status             func() Status
}

var (
	sourceUp = prometheus.NewDesc("tailrace_source_up",
		"1 while a database is read, 0 while it cannot be reached.", []string{"database"}, nil)
	targetUp = prometheus.NewDesc("tailrace_sink_up",
		"1 while a target takes what is queued for it, else 0.", []string{"target"}, nil)
)

// Describe implements prometheus.Collector.
func (c *upCollector) Describe(out chan<- *prometheus.Desc) {
	out <- sourceUp
	out <- targetUp
}

// Collect implements prometheus.Collector.
func (c *upCollector) Collect(out chan<- prometheus.Metric) {
	s := c.status()
	each := func(desc *prometheus.Desc, names []string, problems map[string]error) {
		for _, name := range names {
			up := 1.0
			if problems[name] != nil || s.Stopped {
				up = 0
			}
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, up, name)
		}
	}
	each(sourceUp, c.databases, s.Sources)
	each(targetUp, c.targets, s.Targets)
}

package alert

import "github.com/prometheus/client_golang/prometheus"

// collector gives Prometheus what is raised when it asks.
type collector struct{ e *Engine }

var raisedDesc = prometheus.NewDesc("edgegateway_alert_raised", "Sources at which an alert is raised now.", []string{"alert"}, nil)

func (c collector) Describe(ch chan<- *prometheus.Desc) { ch <- raisedDesc }

func (c collector) Collect(ch chan<- prometheus.Metric) {
	c.e.look(func(r *rule) {
		ch <- prometheus.MustNewConstMetric(raisedDesc, prometheus.GaugeValue, float64(r.raised()), r.name)
	})
}

package rollout

import "github.com/prometheus/client_golang/prometheus"

// besides gives Prometheus the counters of versions beside the live ones when it
// asks, for each model that has stages; they begin anew with each stage, and are
// 0 where there is none.
type besides struct{ r *Rollout }

var (
	besideLabels  = []string{"model"}
	besideSamples = prometheus.NewDesc("edgegateway_model_beside_samples", "Samples that the version beside the live one was compared on, or answered as a canary, in this stage.", besideLabels, nil)
	besideDropped = prometheus.NewDesc("edgegateway_model_beside_dropped", "Samples that the version in the shadow was not asked, for too many waited.", besideLabels, nil)
	besideAgrees  = prometheus.NewDesc("edgegateway_model_beside_agreement", "Share of the compared samples on which it says what the live version says.", besideLabels, nil)
	besideErrors  = prometheus.NewDesc("edgegateway_model_beside_errors", "Share of inputs that it gave no answer to.", besideLabels, nil)
)

func (c besides) Describe(ch chan<- *prometheus.Desc) {
	ch <- besideSamples
	ch <- besideDropped
	ch <- besideAgrees
	ch <- besideErrors
}

func (c besides) Collect(ch chan<- prometheus.Metric) {
	for model, steps := range c.r.config().Models {
		if len(steps.stagesOf("")) == 0 {
			continue
		}
		p, _ := c.r.Progress(model)
		for d, v := range map[*prometheus.Desc]float64{
			besideSamples: float64(p.Samples), besideDropped: float64(p.Dropped), besideAgrees: p.Agreement, besideErrors: p.Errors,
		} {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, model)
		}
	}
}

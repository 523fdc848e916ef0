package pipeline

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Status is one stream as a person looks at it.
type Status struct {
	Stream  string            `json:"stream"`
	Model   string            `json:"model,omitempty"`
	Version string            `json:"version,omitempty"` // the one that the stream is pinned to
	In      uint64            `json:"in"`                // messages that matched; of pictures in pieces, whole and torn ones
	Results uint64            `json:"results"`           // results published
	Queued  int               `json:"queued"`
	Drops   map[string]uint64 `json:"drops"`
	Drift   *DriftStatus      `json:"drift,omitempty"` // of a stream that is watched for it
}

// Status lists the streams by name.
func (p *Pipeline) Status() []Status {
	t := p.table.Load()
	var list []Status
	for _, name := range slices.Sorted(maps.Keys(t.streams)) {
		s := t.streams[name]
		st := Status{
			Stream: name, Model: s.cfg.Model, Version: s.cfg.Version, In: s.in.Load(), Results: s.results.Load(),
			Queued: s.queued(), Drops: s.drops.counts(),
		}
		if s.watch != nil {
			st.Drift = s.watch.status()
		}
		list = append(list, st)
	}
	return list
}

// collector gives the streams' counters to Prometheus when it asks.
type collector struct{ p *Pipeline }

var (
	inDesc     = prometheus.NewDesc("edgegateway_pipeline_messages_total", "Messages that matched a stream.", []string{"stream"}, nil)
	outDesc    = prometheus.NewDesc("edgegateway_pipeline_results_total", "Results published.", []string{"stream"}, nil)
	driftDesc  = prometheus.NewDesc("edgegateway_pipeline_drift", "How far the last window of a stream is from its reference, in parts of what is drift; 0 before the first judgement.", []string{"stream"}, nil)
	driftsDesc = prometheus.NewDesc("edgegateway_pipeline_drifts", "1 while a stream's data drifts.", []string{"stream"}, nil)
	queuedDesc = prometheus.NewDesc("edgegateway_pipeline_queued", "Messages that wait for a worker.", []string{"stream"}, nil)
)

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- inDesc
	ch <- outDesc
	ch <- queuedDesc
	ch <- driftDesc
	ch <- driftsDesc
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.p.Status() {
		ch <- prometheus.MustNewConstMetric(inDesc, prometheus.CounterValue, float64(s.In), s.Stream)
		ch <- prometheus.MustNewConstMetric(outDesc, prometheus.CounterValue, float64(s.Results), s.Stream)
		ch <- prometheus.MustNewConstMetric(queuedDesc, prometheus.GaugeValue, float64(s.Queued), s.Stream)
		if d := s.Drift; d != nil {
			raised := 0.0
			if d.State == DriftRaised {
				raised = 1
			}
			ch <- prometheus.MustNewConstMetric(driftDesc, prometheus.GaugeValue, d.Drift, s.Stream)
			ch <- prometheus.MustNewConstMetric(driftsDesc, prometheus.GaugeValue, raised, s.Stream)
		}
	}
}

package infer

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"
)

// ages gives Prometheus how long results took when it asks, of the versions at
// work since each is.
type ages struct{ e *Engine }

var ageDesc = prometheus.NewDesc("edgegateway_infer_result_seconds", "From the arrival of a message to the result, by model.", []string{"model"}, nil)

// Each doubling from 65 µs to 8.6 s is a bucket.
const firstAge, lastAge = 15, 32

func (a ages) Describe(ch chan<- *prometheus.Desc) { ch <- ageDesc }

func (a ages) Collect(ch chan<- prometheus.Metric) {
	a.e.mu.RLock()
	models := maps.Clone(a.e.models)
	a.e.mu.RUnlock()
	for name, m := range models {
		c := m.Counts()
		var n uint64
		upTo := map[float64]uint64{}
		for i, k := range c.ages {
			n += k
			if octave := i / 4; i%4 == 3 && octave >= firstAge && octave <= lastAge {
				upTo[(bucketEnd(i) + 1).Seconds()] = n
			}
		}
		ch <- prometheus.MustNewConstHistogram(ageDesc, n, c.aged.Seconds(), upTo, name)
	}
}

package upstream

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"edgegateway/internal/offer"
	"edgegateway/internal/spool"
)

// metrics of an outbox and of its bridge.
type metrics struct {
	outbox     *Outbox
	appended   [classes]prometheus.Counter
	acked      [classes]prometheus.Counter
	dropped    *prometheus.CounterVec
	lost       prometheus.Counter
	bytes      prometheus.Counter
	connects   prometheus.Counter
	failures   prometheus.Counter
	commands   prometheus.Counter
	busy       prometheus.Counter
	modelBytes prometheus.Counter
	models     *prometheus.CounterVec
	connected  prometheus.Gauge
	all        []prometheus.Collector
}

func newMetrics(o *Outbox) *metrics {
	m := &metrics{outbox: o}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "edgegateway_upstream_" + name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "edgegateway_upstream_" + name, Help: help}, labels)
		m.all = append(m.all, c)
		return c
	}
	appended := vec("appended_total", "Records put in line.", "class")
	acked := vec("acked_total", "Records that the cloud acknowledged.", "class")
	for class := range classes {
		m.appended[class] = appended.WithLabelValues(class.String())
		m.acked[class] = acked.WithLabelValues(class.String())
	}
	m.dropped = vec("dropped_total", "Records given up: over the bound (full), the age, the stream's share, the size, with a topic no broker takes, refused by the cloud, or not taken by the disk.", "class", "stream", "reason")
	for class := range classes { // from the start; those with a stream's name come with its first
		for _, reason := range []string{spool.DropFull, spool.DropAge, dropShare, dropSize, dropTopic, dropDisk, dropRefused, dropBad} {
			m.dropped.WithLabelValues(class.String(), "", reason)
		}
	}
	m.lost = counter("lost_total", "Records lost to damage on disk.")
	m.bytes = counter("sent_bytes_total", "Payload bytes that the cloud acknowledged.")
	m.connects = counter("connects_total", "Connections to the cloud.")
	m.failures = counter("failures_total", "Connections that failed or were lost.")
	m.commands = counter("commands_total", "Commands from the cloud.")
	m.busy = counter("commands_refused_total", "Commands from the cloud that were not executed because others waited.")
	m.modelBytes = counter("model_bytes_total", "Bytes of models that came from the cloud.")
	m.models = vec("models_total", "Offers of models by the cloud that were got, or refused for good.", "outcome")
	for _, outcome := range []string{offer.Got, offer.Refused} {
		m.models.WithLabelValues(outcome)
	}
	m.connected = prometheus.NewGauge(prometheus.GaugeOpts{Name: "edgegateway_upstream_connected", Help: "1 while the link is up."})
	m.all = append(m.all, m.connected, m)
	return m
}

func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	var errs []error
	for _, c := range m.all {
		errs = append(errs, reg.Register(c))
	}
	return errors.Join(errs...)
}

var (
	queuedDesc = prometheus.NewDesc("edgegateway_upstream_queued", "Records that wait for the cloud.", []string{"class"}, nil)
	diskDesc   = prometheus.NewDesc("edgegateway_upstream_disk_bytes", "What the outbox takes on disk.", []string{"class"}, nil)
	ageDesc    = prometheus.NewDesc("edgegateway_upstream_oldest_seconds", "Age of the oldest record that waits.", []string{"class"}, nil)
)

// Describe implements prometheus.Collector for what is asked when it is read.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- queuedDesc
	ch <- diskDesc
	ch <- ageDesc
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for class := range classes {
		name := class.String()
		n, bytes := m.outbox.logs[class].Len()
		ch <- prometheus.MustNewConstMetric(queuedDesc, prometheus.GaugeValue, float64(n), name)
		ch <- prometheus.MustNewConstMetric(diskDesc, prometheus.GaugeValue, float64(bytes), name)
		age := 0.0
		if t := m.outbox.oldest(class); n > 0 && !t.IsZero() {
			age = time.Since(t).Seconds()
		}
		ch <- prometheus.MustNewConstMetric(ageDesc, prometheus.GaugeValue, age, name)
	}
}

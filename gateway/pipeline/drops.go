package pipeline

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// drops counts what a stream did not turn into a result, by reason, and logs
// each reason at most once a second, superseded for debugging only.
type drops struct {
	stream  string
	counter *prometheus.CounterVec // labels stream, reason
	mu      sync.Mutex
	reasons map[string]*dropReason
}

type dropReason struct {
	counter prometheus.Counter
	n       atomic.Uint64
	logged  atomic.Int64 // unix nanoseconds of the last line
	silent  atomic.Uint64
}

// dropReasons are all there are; docs/streams.md tells them.
var dropReasons = []string{
	"bad_json", "bad_csv", "bad_picture", "bad_base64", "bad_time", "missing_field", "not_a_number", "wrong_length",
	"too_large", "picture_too_large", "torn_chunks", "no_source", "source_evicted", "window_reset",
	"queue_full", "superseded", "inference", "out_of_range", "publish", "stopping",
}

// newDrops shows every reason at 0 from the start, so that a first drop is a
// rise that a rule over the metrics sees.
func newDrops(stream string, counter *prometheus.CounterVec) *drops {
	for _, reason := range dropReasons {
		counter.WithLabelValues(stream, reason)
	}
	return &drops{stream: stream, counter: counter, reasons: map[string]*dropReason{}}
}

// add counts n messages that left for this reason. err may be nil.
func (d *drops) add(log zerolog.Logger, reason string, n int, err error) {
	if reason == "" {
		reason = "inference"
	}
	d.mu.Lock()
	r := d.reasons[reason]
	if r == nil {
		r = &dropReason{counter: d.counter.WithLabelValues(d.stream, reason)}
		d.reasons[reason] = r
	}
	d.mu.Unlock()
	r.n.Add(uint64(n))
	r.counter.Add(float64(n))
	now := time.Now().UnixNano()
	last := r.logged.Load()
	if now-last < int64(time.Second) || !r.logged.CompareAndSwap(last, now) {
		r.silent.Add(uint64(n))
		return
	}
	level := zerolog.WarnLevel
	if reason == superseded { // what full: latest is for, not a fault
		level = zerolog.DebugLevel
	}
	log.WithLevel(level).Err(err).Str("reason", reason).Int("count", n).
		Uint64("since_last_line", r.silent.Swap(0)).Uint64("total", r.n.Load()).Msg("dropped")
}

// counts are the drops so far by reason.
func (d *drops) counts() map[string]uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := make(map[string]uint64, len(d.reasons))
	for name, r := range d.reasons {
		m[name] = r.n.Load()
	}
	return m
}

package broker

import (
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// reasons counts what the broker refused, cut or dropped, and logs each reason
// at most once a second: who knocks without end must not fill the disk. Every
// reason there is is named at the start, so that its count is there, at 0.
type reasons struct {
	counter *prometheus.CounterVec
	log     zerolog.Logger
	text    string
	all     map[string]*reason // not changed after the start
}

type reason struct {
	text   string
	level  zerolog.Level
	n      prometheus.Counter
	logged atomic.Int64  // unix nanoseconds of the last line
	silent atomic.Uint64 // how many had none since
}

// about is whom and what a line is about. What is empty is left out.
type about struct{ client, user, remote, topic string }

func newReasons(log zerolog.Logger, level zerolog.Level, opts prometheus.CounterOpts, text string, all map[string]string) *reasons {
	r := &reasons{counter: prometheus.NewCounterVec(opts, []string{"reason"}), log: log, text: text, all: map[string]*reason{}}
	for name, why := range all {
		r.all[name] = &reason{text: why, level: level, n: r.counter.WithLabelValues(name)}
	}
	return r
}

// add counts one. err may be nil.
func (r *reasons) add(name string, a about, err error) {
	why := r.all[name]
	why.n.Inc()
	now := time.Now().UnixNano()
	last := why.logged.Load()
	if now-last < int64(time.Second) || !why.logged.CompareAndSwap(last, now) {
		why.silent.Add(1)
		return
	}
	line := r.log.WithLevel(why.level).Str("reason", name)
	for _, f := range []struct{ key, value string }{{"client", a.client}, {"user", a.user}, {"remote", a.remote}, {"topic", a.topic}} {
		if f.value != "" {
			line = line.Str(f.key, shorten(f.value))
		}
	}
	if n := why.silent.Swap(0); n > 0 {
		line = line.Uint64("since_last_line", n)
	}
	line.Err(err).Msg(r.text + why.text)
}

// shorten cuts names that come from outside to what a line can bear.
func shorten(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}

// The reasons, with what a person can do about each.
var (
	refusals = map[string]string{
		"password":  "login: user or password is not right",
		"identity":  "login: nobody comes from there without a user; give the client one of broker.users, or name broker.anonymous",
		"client_id": "login: the client id is in use by another user",
		"will":      "login: no rule lets this client publish to its will's topic",
		"publish":   "publish: no rule allows this topic (publish: of the user, or of broker.anonymous)",
		"subscribe": "subscription: no rule allows this filter (subscribe: of the user, or of broker.anonymous)",
		"stopping":  "publish: the gateway stops",
	}
	cuts = map[string]string{
		"accept":          "a socket could not be taken",
		"connections":     "as many clients as limits.connections allows are there",
		"connect_timeout": "no CONNECT within limits.connect_timeout",
		"keepalive":       "silent for longer than its keep-alive",
		"packet_size":     "a packet is longer than limits.max_packet_bytes, or its first than 256 KiB",
		"panic":           "it broke the broker library",
		"protocol":        "what it sends is not MQTT 3.1.1 or 5",
		"reload":          "the new configuration does not allow it",
		"slow_subscriber": "a subscriber at QoS 1 or 2 takes nothing",
		"taken_over":      "its client id connects again",
		"tls":             "no TLS session came about",
		"websocket":       "no WebSocket came about",
		"write_timeout":   "a write took longer than limits.write_timeout",
	}
	losses = map[string]string{
		"slow_subscriber": "a subscriber at QoS 0 is slower than what comes",
		"queue_full":      "its queue is full",
		"session_full":    "more waits for a client that is away than limits.inflight allows",
		"too_large":       "the subscriber takes no packet of that size",
	}
)

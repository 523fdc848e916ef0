package alert

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/gateway/pipeline"
	"edgegateway/infer"
)

// world keeps what an engine tells it.
type world struct {
	mu     sync.Mutex
	begin  time.Time
	events []*Event
	local  []string
	refuse error
	told   func(e *Event) // nil: nobody looks on
}

func (w *world) PublishEvent(e *Event) {
	if w.told != nil {
		w.told(e)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

func (w *world) PublishLocal(topic string, payload []byte, retain bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.local = append(w.local, fmt.Sprintf("%s %s %v", topic, payload, retain))
	return w.refuse
}

// log is the events as "5s raised a".
func (w *world) log() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, e := range w.events {
		list = append(list, fmt.Sprintf("%v %s %s", e.Time.Sub(w.begin).Truncate(100*time.Millisecond), e.State, e.Source))
	}
	return list
}

func (w *world) all() []*Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events)
}

func rule1(change func(*Config)) map[string]Config {
	c := DefaultConfig()
	c.Stream, c.When = "s", "v > 10"
	if change != nil {
		change(&c)
	}
	return map[string]Config{"hot": c}
}

func fieldsV(string) (Fields, error) { return Fields{Features: []string{"v", "w.mean"}}, nil }

// engine runs an engine until stop, which waits for its end.
func engine(t *testing.T, rules map[string]Config, dir string, w *world) (e *Engine, stop func()) {
	t.Helper()
	e, err := New(rules, fieldsV, dir, w, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return e, running(t, e)
}

func running(t *testing.T, e *Engine) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func reading(source string, v float64) *pipeline.Result {
	return &pipeline.Result{Stream: "s", Source: source, Features: []pipeline.Feature{{Name: "v", Value: v}, {Name: "w.mean", Value: v / 2}}}
}

func feed(e *Engine, r *pipeline.Result) { e.Result(r, r.AppendJSON(nil), true) }

func faces(source string, labels ...string) *pipeline.Result {
	r := &pipeline.Result{Stream: "s", Source: source, Infer: infer.Result{Model: "m", Objects: []infer.Object{}}, Picture: []byte("picture of " + source)}
	for _, l := range labels {
		r.Infer.Objects = append(r.Infer.Objects, infer.Object{Label: l, Score: 0.75, Box: [4]float64{0, 0, 1, 1}})
	}
	return r
}

var nan = math.NaN()

package pipeline

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/infer"
	"edgegateway/infer/drift"
)

// observer is a watcher and recorder that remembers.
type observer struct {
	mu      sync.Mutex
	learned map[string]*drift.Reference
	told    []string
	kept    []string
	more    chan struct{} // a token for each thing that it is told
}

func newObserver() *observer {
	return &observer{learned: map[string]*drift.Reference{}, more: make(chan struct{}, 10_000)}
}

func (o *observer) note(list *[]string, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*list = append(*list, text)
	o.more <- struct{}{}
}

func (o *observer) Bundled(_, _ string) (*drift.Reference, error) { return nil, nil }

func (o *observer) Learned(stream string) (*drift.Reference, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.learned[stream], nil
}

func (o *observer) Keep(stream string, r *drift.Reference) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.learned[stream] = r
	o.more <- struct{}{}
	return nil
}

func (o *observer) Drift(stream string, raised bool, s DriftStatus) {
	o.note(&o.told, fmt.Sprint(stream, " ", raised, " ", s.State, " ", s.Feature))
}

func (o *observer) Record(r *Result, input []float64) {
	o.note(&o.kept, fmt.Sprint(r.Stream, " ", r.Source, " ", r.Seq, " ", r.ID != "", " ", input))
}

// wait waits until cond holds; what o is told wakes it.
func (o *observer) wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		o.mu.Lock()
		ok := cond()
		o.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-o.more:
		case <-limit:
			t.Fatalf("%s: waited long enough; told %v", what, o.told)
		}
	}
}

func watched(window int) Config {
	c := numbers("d/+")
	c.Workers = 1
	c.Drift = &DriftConfig{Window: window, Learn: 8 * window, Every: "1", FalseAlarms: 0.001, Keep: 4, MaxSamples: 10, MaxBytes: 1 << 20}
	return c
}

func begin(t *testing.T, cfg Config, o *observer) (p *Pipeline, stop func()) {
	t.Helper()
	p, err := New(map[string]Config{"d": cfg}, noModels{}, &kept{}, nil, o, o, func() (uint64, error) { return 1, nil }, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	return p, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A stream learns what is ordinary, keeps it, is told to drift when its values
// move and to be steady when they come back, and keeps the most unusual of each
// window; what was learned counts after a restart.
func TestDrift(t *testing.T) {
	const window = 64
	o := newObserver()
	p, stop := begin(t, watched(window), o)
	rng := rand.New(rand.NewPCG(1, 2))
	send := func(p *Pipeline, n int, off float64) {
		for range n {
			p.Handle(broker.Message{Topic: "d/a", Payload: fmt.Appendf(nil, `{"v":%g}`, off+rng.NormFloat64()), Received: time.Unix(1000, 0)})
		}
	}
	status := func(p *Pipeline) DriftStatus { return *p.Status()[0].Drift }
	send(p, 8*window, 0)
	o.wait(t, "learned", func() bool { return o.learned["d"] != nil })
	for status(p).State == DriftLearns { // it is kept, then used
		send(p, 1, 0)
	}
	send(p, 3*window, 0)
	o.wait(t, "steady", func() bool { return slices.Equal(o.told, []string{"d false steady v"}) })
	if s := status(p); s.Drift <= 0 || s.Drift > 1 || s.From != "stream" || s.Samples != window || s.Text == "" || len(s.Features) != 1 {
		t.Errorf("steady: %+v", s)
	}
	send(p, window, 3)
	o.wait(t, "drifts", func() bool { return len(o.told) == 2 })
	if o.told[1] != "d true drifts v" {
		t.Errorf("told %q", o.told)
	}
	send(p, 2*window, 0)
	o.wait(t, "steady again", func() bool { return len(o.told) == 3 })
	if o.told[2] != "d false steady v" {
		t.Errorf("told %q", o.told)
	}
	stop()
	if n := len(o.kept); n < 2*3 || n > 2*12 {
		t.Errorf("%d samples are kept for labelling", n)
	}
	for _, k := range o.kept {
		if !strings.HasPrefix(k, "d.review a ") || !strings.Contains(k, " true [") {
			t.Errorf("kept %q", k)
		}
	}
	o.told = nil
	p, stop = begin(t, watched(window), o)
	send(p, window, 3)
	o.wait(t, "drifts at once", func() bool { return slices.Equal(o.told, []string{"d true drifts v"}) })
	stop()

	// Another input has other numbers: it is learned anew.
	other := watched(window)
	other.Input.JSON = []string{"v", "w"}
	p, stop = begin(t, other, o)
	learned := func() int {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.learned["d"].Features)
	}
	for i := 0; learned() != 2; i++ {
		p.Handle(broker.Message{Topic: "d/a", Payload: fmt.Appendf(nil, `{"v":%d,"w":%d}`, i%7, i%5), Received: time.Unix(1000, 0)})
	}
	stop()
}

// A reference that the configuration names is used, or refused by name.
func TestDriftReference(t *testing.T) {
	l, err := drift.NewLearner([]string{"v"}, 1, false, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		l.Add([]float64{float64(i * 37 % 100)}, "")
	}
	ref, err := l.Reference()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "ref.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := ref.Write(file); err != nil {
		t.Fatal(err)
	}
	cfg := watched(32)
	cfg.Drift.Reference = file.Name()
	p, stop := begin(t, cfg, newObserver())
	if s := *p.Status()[0].Drift; s.State != DriftFills || s.From != "file" {
		t.Errorf("%+v", s)
	}
	stop()
	for want, content := range map[string]string{"streams.d.drift.reference: " + file.Name(): "{}", "no such file": ""} {
		if content == "" {
			cfg.Drift.Reference += ".gone"
		} else if err := os.WriteFile(file.Name(), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		bad := cfg
		if content != "" {
			d := *cfg.Drift
			d.Reference = file.Name()
			bad.Drift = &d
		}
		if _, err := New(map[string]Config{"d": bad}, noModels{}, &kept{}, nil, nil, nil, func() (uint64, error) { return 1, nil }, zerolog.Nop(), prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestDriftConfig(t *testing.T) {
	for want, spoil := range map[string]func(c *Config){
		"":                     func(*Config) {},
		"drift.window: 5 is":   func(c *Config) { c.Drift.Window = 5 },
		"drift.every":          func(c *Config) { c.Drift.Every = "often" },
		"drift.learn: 100 is":  func(c *Config) { c.Drift.Learn = 100 },
		"drift.window: 16 win": func(c *Config) { c.Drift.Window, c.Drift.Learn = 100_000, 0 },
		"drift.false_alarms":   func(c *Config) { c.Drift.FalseAlarms = 2 },
		"drift.keep":           func(c *Config) { c.Drift.Keep = -1 },
		"drift.max_samples":    func(c *Config) { c.Drift.MaxSamples = 0 },
		"drift.max_bytes":      func(c *Config) { c.Drift.MaxBytes = 0 },
		"drift: pictures":      func(c *Config) { c.Input.JSON, c.Input.Image, c.Record = nil, "auto", nil },
	} {
		c := watched(64)
		spoil(&c)
		if err := c.Validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// A sample that is looked at costs no allocation.
func TestDriftAllocates(t *testing.T) {
	o := newObserver()
	w, err := newWatch("d", watched(64), nil, o, o, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	l, err := drift.NewLearner([]string{"v", "score"}, 1, true, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		l.Add([]float64{rng.NormFloat64(), rng.Float64()}, fmt.Sprint(i%3))
	}
	ref, err := l.Reference()
	if err != nil {
		t.Fatal(err)
	}
	w.keep = 0 // the first of a window are copied
	if err := w.use(ref); err != nil {
		t.Fatal(err)
	}
	at := &slot{kept: []float64{1}, looked: make([]float64, 1, 8)}
	at.result.Infer = infer.Result{Model: "m", Label: "1", Score: 0.6, Top: []infer.Class{{Label: "1", Score: 0.6}, {Label: "2", Score: 0.3}}}
	per := testing.AllocsPerRun(10, func() {
		for range 1600 { // a hundred judgements
			at.looked = drift.Inputs(at.looked[:0], at.kept, 0)
			w.add(nil, at)
		}
	})
	if per /= 1600; per > 0.5 {
		t.Errorf("%.2f allocations a sample", per)
	}
}

// The most uncertain and the most unusual, each once, in their order.
func TestReview(t *testing.T) {
	v := review{most: 4}
	for i, s := range []struct{ unsure, unusual float64 }{{0.1, 1}, {0.9, 2}, {0.2, 9}, {0.8, 8}, {-1, 3}, {0.85, 1}} {
		at := &slot{kept: []float64{float64(i)}}
		at.result.ID, at.result.Received = fmt.Sprint(i), time.Unix(int64(i), 0)
		v.add(at, s.unsure, s.unusual)
	}
	var got []string
	for _, n := range v.take() {
		got = append(got, fmt.Sprint(n.id, n.input))
	}
	if want := []string{"1[1]", "2[2]", "3[3]", "5[5]"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if len(v.take()) != 0 {
		t.Error("taken twice")
	}
}

func TestUncertain(t *testing.T) {
	for _, c := range []struct {
		r    infer.Result
		want float64
	}{
		{infer.Result{}, -1},
		{infer.Result{Top: []infer.Class{{Score: 0.5}, {Score: 0.5}}}, 1},
		{infer.Result{Top: []infer.Class{{Score: 1}, {Score: 0}}}, 0},
		{infer.Result{Top: []infer.Class{{Score: 0.5}}}, 1},
		{infer.Result{Objects: []infer.Object{{Score: 0.9}, {Score: 0.75}}}, 0.25},
	} {
		if got := uncertain(&c.r); got != c.want {
			t.Errorf("%+v: %v, want %v", c.r, got, c.want)
		}
	}
}

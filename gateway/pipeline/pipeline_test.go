package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/infer"
	"edgegateway/sensors"
)

// kept is the publisher and sink of these tests: it keeps all it is given.
type kept struct {
	mu     sync.Mutex
	topics []string
	jsons  []string
	ups    int
}

func (k *kept) Publish(topic string, payload []byte, _ byte, _ bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.topics = append(k.topics, topic)
	return nil
}

func (k *kept) Result(_ *Result, js []byte, up bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.jsons = append(k.jsons, string(js))
	if up {
		k.ups++
	}
}

type noModels struct{}

func (noModels) Model(name string) (*infer.Model, error) {
	return nil, fmt.Errorf("there is no model %q", name)
}

func numbers(topics ...string) Config {
	c := DefaultConfig()
	c.Topics = topics
	c.Input = sensors.DefaultInputConfig()
	c.Input.JSON = []string{"v"}
	return c
}

func start(t *testing.T, streams map[string]Config, more ...Sink) (p *Pipeline, k *kept, stop func()) {
	t.Helper()
	k = &kept{}
	epoch := uint64(4)
	p, err := New(streams, noModels{}, k, append([]Sink{k}, more...), nil, nil, func() (uint64, error) { epoch++; return epoch, nil }, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	return p, k, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func msg(topic, payload string) broker.Message {
	return broker.Message{Topic: topic, Payload: []byte(payload), ClientID: "c1", Received: time.Unix(1000, 0)}
}

func TestSources(t *testing.T) {
	byPath := numbers("machine/#")
	byPath.Source = "data.id"
	byClient := numbers("client/x")
	byClient.Source = "client"
	p, k, stop := start(t, map[string]Config{"room": numbers("room/+/climate"), "plain": numbers("plain"), "path": byPath, "client": byClient})
	for _, m := range []broker.Message{
		msg("room/hall/climate", `{"v":1}`), msg("plain", `{"v":2}`), msg("machine/a/b", `{"v":3,"data":{"id":"press7"}}`),
		msg("machine/a", `{"v":4}`), msg("client/x", `{"v":5}`), msg("other", `{"v":6}`),
	} {
		p.Handle(m)
	}
	stop()
	want := map[string]bool{"results/room/hall": true, "results/plain/plain": true, "results/path/press7": true, "results/client/c1": true}
	got := map[string]bool{}
	for _, topic := range k.topics {
		got[topic] = true
	}
	if !cmp.Equal(got, want) {
		t.Errorf("results on %v, want %v", got, want)
	}
	for _, s := range p.Status() {
		if s.Stream == "path" && s.Drops["no_source"] != 1 {
			t.Errorf("drops of path: %v", s.Drops)
		}
	}
}

// Each message is counted once: as a result, or as a drop with its reason.
func TestEveryMessageAccounted(t *testing.T) {
	windowed := numbers("w/+")
	windowed.Window = &sensors.WindowConfig{Size: "4", Every: "2"}
	windowed.Features = []string{"mean", "max"}
	windowed.Results.Send = "every 2"
	p, k, stop := start(t, map[string]Config{"n": numbers("n/+"), "w": windowed})
	for i := range 1000 {
		payload := fmt.Sprintf(`{"v":%d}`, i)
		switch i % 10 {
		case 3:
			payload = `{"v":"word"}`
		case 7:
			payload = `{`
		}
		p.Handle(msg(fmt.Sprintf("n/%d", i%5), payload))
		p.Handle(msg("w/a", fmt.Sprintf(`{"v":%d}`, i)))
	}
	stop()
	status := map[string]Status{}
	for _, s := range p.Status() {
		status[s.Stream] = s
	}
	if s := status["n"]; s.In != 1000 || s.Results != 800 || s.Drops["not_a_number"] != 100 || s.Drops["bad_json"] != 100 {
		t.Errorf("n: %+v", s)
	}
	if s := status["w"]; s.Results != 499 {
		t.Errorf("w: %+v", s)
	}
	if want := 800 + 250; k.ups != want {
		t.Errorf("%d went up, want %d", k.ups, want)
	}
	last := map[string]uint64{}
	for _, js := range k.jsons {
		var r struct {
			ID, Stream, Source string
			Seq                uint64
			Features           map[string]float64
		}
		if err := json.Unmarshal([]byte(js), &r); err != nil {
			t.Fatal(err)
		}
		key := r.Stream + "/" + r.Source
		if r.Seq <= last[key] {
			t.Fatalf("%s after %d", r.ID, last[key])
		}
		last[key] = r.Seq
		if r.Stream == "w" && r.Features["v.max"] != r.Features["v.mean"]+1.5 {
			t.Fatalf("%s", js)
		}
	}
}

// A reload gives a changed stream a new epoch, keeps an unchanged one, and
// loses nothing while messages come.
func TestReload(t *testing.T) {
	p, k, stop := start(t, map[string]Config{"a": numbers("a/+"), "b": numbers("b/+")})
	var wg sync.WaitGroup
	const each = 3000
	for _, name := range []string{"a", "b"} {
		wg.Go(func() {
			for i := range each {
				p.Handle(msg(name+"/x", fmt.Sprintf(`{"v":%d}`, i)))
			}
		})
	}
	for i := range 20 {
		changed := numbers("b/+")
		changed.Queue = 100 + i
		c, err := p.Prepare(map[string]Config{"a": numbers("a/+"), "b": changed}, noModels{})
		if err != nil {
			t.Fatal(err)
		}
		c.Apply()
	}
	bad := numbers("a/+")
	bad.Model = "none"
	if _, err := p.Prepare(map[string]Config{"a": bad}, noModels{}); err == nil || !strings.Contains(err.Error(), "streams.a.model") {
		t.Errorf("a model that is not there: %v", err)
	}
	wg.Wait()
	stop()
	ids, next := map[string]bool{}, map[string]float64{}
	for _, js := range k.jsons {
		var r struct {
			ID, Stream string
			Features   map[string]float64
		}
		if err := json.Unmarshal([]byte(js), &r); err != nil {
			t.Fatal(err)
		}
		if ids[r.ID] {
			t.Fatalf("the id %s came twice", r.ID)
		}
		ids[r.ID] = true
		if r.Features["v"] != next[r.Stream] {
			t.Fatalf("%s: value %v, want %v", r.ID, r.Features["v"], next[r.Stream])
		}
		next[r.Stream]++
		if r.Stream == "a" && !strings.HasPrefix(r.ID, "a/x/5-") {
			t.Fatalf("the unchanged stream has a new epoch: %s", r.ID)
		}
	}
	for _, s := range p.Status() {
		if s.In != each || s.Results != each { // counted on, over all changes
			t.Errorf("%+v", s)
		}
	}
	if next["a"] != each || next["b"] != each {
		t.Errorf("results: %v, want %d of each", next, each)
	}
}

// A reload may come before Run: what the first streams have queued is
// finished, and the second are not run twice.
func TestReloadBeforeRun(t *testing.T) {
	k := &kept{}
	epoch := uint64(0)
	p, err := New(map[string]Config{"a": numbers("a/+")}, noModels{}, k, []Sink{k}, nil, nil, func() (uint64, error) { epoch++; return epoch, nil }, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	p.Handle(msg("a/x", `{"v":0}`))
	changed := numbers("a/+")
	changed.Queue = 9
	c, err := p.Prepare(map[string]Config{"a": changed}, noModels{})
	if err != nil {
		t.Fatal(err)
	}
	c.Apply()
	p.Handle(msg("a/x", `{"v":1}`))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if len(k.jsons) != 2 || !strings.Contains(k.jsons[0], `"a/x/1-1"`) || !strings.Contains(k.jsons[1], `"a/x/2-1"`) {
		t.Errorf("results: %v", k.jsons)
	}
}

// A source that left and came back never reuses an id.
func TestSourcesBounded(t *testing.T) {
	cfg := numbers("n/#")
	cfg.Workers, cfg.MaxSources = 1, 3
	p, k, stop := start(t, map[string]Config{"n": cfg})
	for i := range 200 {
		p.Handle(msg(fmt.Sprintf("n/%d", i%7), `{"v":1}`))
	}
	stop()
	seen := map[string]bool{}
	for _, js := range k.jsons {
		var r struct{ ID string }
		if json.Unmarshal([]byte(js), &r); seen[r.ID] {
			t.Fatalf("%s twice", r.ID)
		}
		seen[r.ID] = true
	}
	if s := p.Status()[0]; s.Results != 200 || s.Drops["source_evicted"] == 0 {
		t.Errorf("%+v", s)
	}
}

// A message that several filters of a stream match is one message of it, and
// one of each other stream.
func TestSeveralFilters(t *testing.T) {
	p, k, stop := start(t, map[string]Config{"a": numbers("n/+", "n/#", "n/x"), "b": numbers("+/x", "n/x")})
	p.Handle(msg("n/x", `{"v":1}`))
	stop()
	slices.Sort(k.topics)
	if want := []string{"results/a/x", "results/b/n"}; !slices.Equal(k.topics, want) {
		t.Errorf("%v, want %v", k.topics, want)
	}
}

// The number of a result is the payload's where it has one, else it counts on
// from there; a number that comes twice makes the same id.
func TestNumberFromThePayload(t *testing.T) {
	cfg := numbers("n/+")
	cfg.Input.Seq = "n"
	p, k, stop := start(t, map[string]Config{"n": cfg})
	for _, payload := range []string{`{"v":1,"n":41}`, `{"v":1,"n":41}`, `{"v":2,"n":7}`} {
		p.Handle(msg("n/a", payload))
	}
	stop()
	var got []string
	for _, js := range k.jsons {
		var r struct {
			ID  string
			Seq uint64
		}
		if err := json.Unmarshal([]byte(js), &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(r.ID, " ", r.Seq))
	}
	if want := []string{"n/a/5-41 41", "n/a/5-41 41", "n/a/5-7 7"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestJSON(t *testing.T) {
	r := Result{
		ID: "a/b\"\n\xff/1-2", Stream: "a", Source: "b\u2028", Time: time.Unix(1, 5000), Received: time.Unix(2, 0), Seq: 2,
		Features: []Feature{{"cpu.mean", 0.1}, {"bad", math.NaN()}, {"big", 1e300}, {"whole", -3}},
		Infer: infer.Result{Model: "m", Version: "1.4.0", Delegate: "builtin", Label: "cat", Score: float64(float32(0.7)), Top: []infer.Class{{Label: "cat", Score: 0.5}},
			Objects: []infer.Object{{Label: "face", Score: 1, Box: [4]float64{0, 0.25, 0.5, 1}}}, Values: []float64{1, 2.5}, Took: 1500 * time.Microsecond},
	}
	var got map[string]any
	text := r.AppendJSON(nil)
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	want := map[string]any{
		"id": "a/b\"\n\ufffd/1-2", "stream": "a", "source": "b\u2028", "time": "1970-01-01T00:00:01.000005Z", "received": "1970-01-01T00:00:02.000000Z", "seq": 2.0,
		"features": map[string]any{"cpu.mean": 0.1, "bad": nil, "big": 1e300, "whole": -3.0},
		"model":    "m", "version": "1.4.0", "delegate": "builtin", "label": "cat", "score": 0.7, "top": []any{map[string]any{"label": "cat", "score": 0.5}},
		"objects": []any{map[string]any{"label": "face", "score": 1.0, "box": []any{0.0, 0.25, 0.5, 1.0}}}, "values": []any{1.0, 2.5}, "took_us": 1500.0,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestValidate(t *testing.T) {
	change := func(f func(*Config)) Config { c := numbers("a/+"); f(&c); return c }
	for want, c := range map[string]Config{
		"topics: ":                             change(func(c *Config) { c.Topics = nil }),
		"topics[0]: ":                          change(func(c *Config) { c.Topics = []string{"a/#/b"} }),
		"full: ":                               change(func(c *Config) { c.Full = "newest" }),
		"results.send: ":                       change(func(c *Config) { c.Results.Send = "every 0" }),
		"results.send: change is of the label": change(func(c *Config) { c.Results.Send = "change" }),
		"results.topic: ":                      change(func(c *Config) { c.Results.Topic = "a/+" }),
		"input.json[0]: ":                      change(func(c *Config) { c.Input.JSON = []string{"a["} }),
		"window.size: ":                        change(func(c *Config) { c.Window = &sensors.WindowConfig{Size: "x"} }),
		"source: \"id\" ":                      change(func(c *Config) { c.Source, c.Input.JSON, c.Input.Raw = "id", nil, "u8" }),
		"source: \"a[":                         change(func(c *Config) { c.Source = "a[" }),
		"source: \"a[*]":                       change(func(c *Config) { c.Source = "a[*]" }),
		"queue: ":                              change(func(c *Config) { c.Queue = 0 }),
		"model: ":                              change(func(c *Config) { c.Input.JSON, c.Input.Image = nil, "auto" }),
		"picture.fit: ":                        change(func(c *Config) { c.Picture.Fit = "tile" }),
		"version: is of a model":               change(func(c *Config) { c.Version = "3" }),
		"max_sources: ":                        change(func(c *Config) { c.MaxSources = 0 }),
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := numbers("a").Validate(); err != nil {
		t.Error(err)
	}
}

func BenchmarkStream(b *testing.B) {
	k := discard{}
	p, err := New(map[string]Config{"n": numbers("n/+")}, noModels{}, k, nil, nil, nil, func() (uint64, error) { return 1, nil }, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	w := p.table.Load().streams["n"].workers[0]
	it := item{msg: msg("n/a", `{"v":12.5}`), source: "a"}
	b.ReportAllocs()
	for b.Loop() {
		w.handle(b.Context(), &it)
		w.flush(b.Context())
	}
}

type discard struct{}

func (discard) Publish(string, []byte, byte, bool) error { return nil }

func BenchmarkJSON(b *testing.B) {
	now := time.Now()
	r := Result{ID: "bench/0/7-123456", Stream: "bench", Source: "0", Time: now, Received: now, Seq: 123456,
		Infer: infer.Result{Model: "m", Delegate: "xnnpack:3", Values: []float64{float64(float32(0.7))}, Score: float64(float32(0.7)), Took: 11 * time.Microsecond}}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = r.AppendJSON(buf[:0])
	}
}

package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/infer"
)

// gate is a sink that lets nothing through until it is opened, so that the
// queues fill, and tells the values of each source in their order.
type gate struct {
	open chan struct{}
	mu   sync.Mutex
	got  map[string][]float64
}

func (g *gate) Result(r *Result, _ []byte, _ bool) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	g.got[r.Source] = append(g.got[r.Source], r.Features[0].Value)
}

// Many publishers overload a stream: what came in is what became a result and
// what was dropped with its reason, to the message, each source in order; and
// a policy that drops keeps the newest.
func TestPoliciesUnderLoad(t *testing.T) {
	const publishers, each, bad = 8, 2000, 50
	for name, reasons := range map[string][]string{"block": nil, "drop-oldest": {queueFull}, "latest": {superseded}} {
		t.Run(name, func(t *testing.T) {
			cfg := numbers("n/+")
			cfg.Full, cfg.Queue, cfg.Workers = name, 16, 3
			g := &gate{open: make(chan struct{}), got: map[string][]float64{}}
			p, k, stop := start(t, map[string]Config{"n": cfg}, g)
			if name == "block" {
				close(g.open)
			}
			var all sync.WaitGroup
			for i := range publishers {
				all.Go(func() {
					for n := range each {
						payload := fmt.Sprintf(`{"v":%d}`, n)
						if name == "block" && n%(each/bad) == 1 {
							payload = "{"
						}
						p.Handle(msg(fmt.Sprintf("n/%d", i), payload))
					}
				})
			}
			all.Wait()
			if name != "block" {
				close(g.open)
			}
			stop()
			s := p.Status()[0]
			dropped := uint64(0)
			for _, n := range s.Drops {
				dropped += n
			}
			if s.In != publishers*each || s.In != s.Results+dropped || int(s.Results) != len(k.jsons) || s.Queued != 0 {
				t.Errorf("%+v, %d results came out", s, len(k.jsons))
			}
			if name == "block" {
				reasons = []string{"bad_json"}
				if s.Drops["bad_json"] != publishers*bad {
					t.Errorf("%+v", s)
				}
			}
			for _, why := range reasons {
				if s.Drops[why] == 0 || len(s.Drops) != len(reasons) {
					t.Errorf("%v, want %v", s.Drops, reasons)
				}
			}
			newest := 0
			for source, values := range g.got {
				for i := 1; i < len(values); i++ {
					if values[i] <= values[i-1] {
						t.Fatalf("source %s: %v after %v", source, values[i], values[i-1])
					}
				}
				if values[len(values)-1] == each-1 {
					newest++
				}
			}
			if name != "drop-oldest" && newest != publishers || newest == 0 {
				t.Errorf("the newest value of %d sources came, of %d", newest, publishers)
			}
		})
	}
}

// Pictures in pieces are put together before they wait: a policy that drops
// takes whole ones.
func TestPiecesThatWait(t *testing.T) {
	var picture bytes.Buffer
	if err := jpeg.Encode(&picture, image.NewGray(image.Rect(0, 0, 96, 96)), nil); err != nil {
		t.Fatal(err)
	}
	j := picture.Bytes()
	s := modelStream(t, infer.ModelConfig{File: "vww_96_int8.tflite", Output: "classes"}, discard{}, func(c *Config) {
		c.Topics = []string{"cam/#"}
		c.Input.Raw, c.Input.Image, c.Input.Chunks = "", "jpeg", true
		c.Full, c.Queue = "latest", 2
	})
	push := func(topic string, payload []byte) {
		s.push(t.Context(), "cam/#", broker.Message{Topic: topic, Payload: payload})
	}
	for range 3 {
		push("cam/a/start", nil)
		push("cam/a/chunk", j[:200])
		push("cam/b/image", j[:300])
		push("cam/a/chunk", j[200:])
		push("cam/b/image", j[300:])
		push("cam/a/end", nil)
		push("cam/b/image_end", nil)
	}
	push("cam/a/end", nil)
	items := s.queues[0].take(nil)
	for i := range items {
		s.workers[0].handle(t.Context(), &items[i])
		s.workers[0].flush(t.Context())
	}
	want := map[string]uint64{superseded: 4, "torn_chunks": 1}
	if d := cmp.Diff(want, s.drops.counts()); d != "" || s.in.Load() != 7 || s.results.Load() != 2 {
		t.Errorf("in %d, results %d, drops %s", s.in.Load(), s.results.Load(), d)
	}
	if s.sources.byName["a"] == nil || s.sources.byName["b"] == nil {
		t.Errorf("sources %v", s.sources.byName)
	}
}

// A picture whose rest never comes is counted and logged when its time is
// over, with nothing more said on its topic; one that is under way at the end
// is counted then.
func TestTornPictureInTime(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Topics = []string{"cam/#"}
	cfg.Input.Image, cfg.Input.Chunks, cfg.Input.ChunkTimeout = "jpeg", true, 2*time.Second
	cfg.Record = &RecordConfig{Every: "1", MaxSamples: 10, MaxBytes: 1 << 20}
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p, err := New(map[string]Config{"c": cfg}, noModels{}, &kept{}, nil, &tape{}, nil, func() (uint64, error) { return 1, nil }, zerolog.New(&out), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(1500 * time.Millisecond)
		p.Handle(msg("cam/porch/start", ""))
		p.Handle(msg("cam/porch/chunk", "0123456789"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := p.Status()[0]; s.In != 1 || s.Drops["torn_chunks"] != 1 {
			t.Errorf("%+v", s)
		}
		if want := "topic cam/porch: a picture of 10 bytes was begun 2s ago and is not complete"; !strings.Contains(out.String(), want) {
			t.Errorf("the log is %s", out.String())
		}
		p.Handle(msg("cam/hall/start", ""))
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if s := p.Status()[0]; s.In != 2 || s.Drops["torn_chunks"] != 1 || s.Drops["stopping"] != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// The bound on sources is the stream's, however many workers share them, and
// who leaves is the one that was silent longest.
func TestLongestSilentLeaves(t *testing.T) {
	cfg := numbers("n/+")
	cfg.Workers, cfg.MaxSources = 4, 1000
	p, k, stop := start(t, map[string]Config{"n": cfg})
	say := func(i int) { p.Handle(msg(fmt.Sprintf("n/%d", i), fmt.Sprintf(`{"v":%d}`, i))) }
	// One after the other, so that it is known who was heard last.
	settle := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; runtime.Gosched() {
			k.mu.Lock()
			got := len(k.jsons)
			k.mu.Unlock()
			if got == n {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d results, want %d", got, n)
			}
		}
	}
	n := 0
	for range 2 {
		for i := range 1000 {
			say(i)
			n++
			settle(n)
		}
	}
	if d := p.Status()[0].Drops; len(d) != 0 {
		t.Fatalf("as many sources as may be: %v", d)
	}
	say(0) // is not the longest silent then
	settle(n + 1)
	say(5000)
	settle(n + 2)
	say(0)
	say(1)
	stop()
	if d := p.Status()[0].Drops; d["source_evicted"] != 2 {
		t.Errorf("drops %v", d)
	}
	last := map[string]uint64{}
	for _, js := range k.jsons[n:] {
		var r struct {
			Source string
			Seq    uint64
		}
		if err := json.Unmarshal([]byte(js), &r); err != nil {
			t.Fatal(err)
		}
		last[r.Source] = r.Seq
	}
	if want := map[string]uint64{"0": 4, "5000": 3, "1": 3}; !cmp.Equal(last, want) {
		t.Errorf("the last numbers are %v, want %v: 1 left after its second and came back", last, want)
	}
}

// A name from outside is bounded, and where it is no part of a topic the
// result's topic has it changed, the result as it is.
func TestOddSources(t *testing.T) {
	cfg := numbers("n")
	cfg.Source = "id"
	p, k, stop := start(t, map[string]Config{"n": cfg})
	for _, id := range []string{`"a+b/#"`, `7`, `true`, `"` + strings.Repeat("x", maxSourceBytes+1) + `"`, `"` + strings.Repeat("/", maxSourceLevels) + `"`, `null`, `{}`, `""`} {
		p.Handle(msg("n", `{"v":1,"id":`+id+`}`))
	}
	p.Handle(msg("n", `{"v":1,"id":`))
	stop()
	got := map[string]bool{}
	for _, topic := range k.topics {
		got[topic] = true
	}
	if want := map[string]bool{"results/n/a-b/-": true, "results/n/7": true, "results/n/true": true}; !cmp.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !strings.Contains(strings.Join(k.jsons, ""), `"id":"n/a+b/#/5-1"`) {
		t.Errorf("%v", k.jsons)
	}
	if d := p.Status()[0].Drops; d["no_source"] != 5 || d["bad_json"] != 1 {
		t.Errorf("%v", d)
	}
}

// What a stop leaves without a result is counted like any drop: what is queued
// and cut, who waits for room, and who comes too late.
func TestStoppingIsCounted(t *testing.T) {
	const n = 10
	cfg := numbers("n/+")
	cfg.Workers, cfg.Queue, cfg.Full = 1, 2, "block"
	g := &gate{open: make(chan struct{}), got: map[string][]float64{}}
	p, _, stop := start(t, map[string]Config{"n": cfg}, g)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { p.Handle(msg("n/a", fmt.Sprintf(`{"v":%d}`, i))) })
	}
	for p.Status()[0].In < n { // each is counted in before it may wait
		runtime.Gosched()
	}
	p.Cut()
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	all.Wait() // the stop lets them go
	close(g.open)
	<-stopped
	p.Handle(msg("n/a", `{"v":1}`))
	s := p.Status()[0]
	if s.In != n+1 || s.Results+s.Drops["stopping"] != n+1 || s.Drops["stopping"] < n-3 {
		t.Errorf("%d in, %d results, drops %v", s.In, s.Results, s.Drops)
	}
	// A reload that comes now starts nothing.
	changed := cfg
	changed.Queue = 3
	c, err := p.Prepare(map[string]Config{"n": changed}, noModels{})
	if err != nil {
		t.Fatal(err)
	}
	<-c.Apply()
	if p.table.Load().streams["n"].cfg.Queue != 2 {
		t.Error("a stopped gateway took over new streams")
	}
}

// Sources beyond the bound keep their order too, and what is remembered of who
// works for whom is bounded with them.
func TestOrderBeyondTheBound(t *testing.T) {
	const sources, each = 20, 100
	cfg := numbers("n/+")
	cfg.Workers, cfg.MaxSources = 4, 5
	g := &gate{open: make(chan struct{}), got: map[string][]float64{}}
	close(g.open)
	p, _, stop := start(t, map[string]Config{"n": cfg}, g)
	queues := map[string]*queue{}
	s := p.table.Load().streams["n"]
	for i := range each {
		for k := range sources {
			name := fmt.Sprint(k)
			p.Handle(msg("n/"+name, fmt.Sprintf(`{"v":%d}`, i)))
			if q := s.queueOf(name); queues[name] != nil && queues[name] != q {
				t.Fatalf("source %s goes to another worker", name)
			} else {
				queues[name] = q
			}
		}
	}
	stop()
	for name, values := range g.got {
		if len(values) != each || !slices.IsSorted(values) {
			t.Errorf("source %s: %v", name, values)
		}
	}
	if n := len(s.dealt); len(g.got) != sources || n > cfg.MaxSources {
		t.Errorf("%d sources told, %d remembered", len(g.got), n)
	}
}

package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"edgegateway/broker"
	"edgegateway/infer"
	"edgegateway/internal/testkit"
	"edgegateway/sensors"
)

// pair is a pipeline with one stream s, of the live version of a model m, and
// the engine that opens another one.
func pair(t testing.TB, live infer.ModelConfig, change func(*Config), pub Publisher) (*Pipeline, *infer.Engine) {
	t.Helper()
	e, err := infer.New(infer.Config{Delegate: "builtin", Workers: 1}, map[string]infer.ModelConfig{"m": live}, t.TempDir(), nil, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	cfg := DefaultConfig()
	cfg.Topics, cfg.Model, cfg.Workers, cfg.Input.Raw = []string{"x/+"}, "m", 1, "f32le"
	if change != nil {
		change(&cfg)
	}
	p, err := New(map[string]Config{"s": cfg}, e, pub, nil, nil, nil, func() (uint64, error) { return 1, nil }, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return p, e
}

// beside puts a version beside the live one, at work; stop ends it.
func beside(t testing.TB, p *Pipeline, e *infer.Engine, cfg BesideConfig, next infer.ModelConfig, found func(Compared)) (b *Beside, stop func()) {
	t.Helper()
	live, err := e.Model("m")
	if err != nil {
		t.Fatal(err)
	}
	b = NewBeside(cfg, live, func() (*infer.Model, error) { return e.Beside("m", next, cfg.Shadow > 0, nil, nil) }, found)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	select {
	case <-b.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	p.Beside("m", b)
	return b, func() {
		p.Beside("m", nil)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func sineVersions(t testing.TB) (one, two infer.ModelConfig) {
	one = infer.ModelConfig{File: testkit.Shared(t, "models/hello_world_float.tflite"), Output: "regression", Version: "1"}
	two = one
	two.File, two.Version = testkit.Shared(t, "models/hello_world_int8.tflite"), "2"
	return one, two
}

// answered is what the tests read of a result.
type answered struct {
	ID, Source, Version string
	Seq                 int
	Values              []float64
}

func readAll(t *testing.T, results [][]byte) (list []answered) {
	t.Helper()
	for _, b := range results {
		var r answered
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

// The shadow sees what the live version saw, normalised and windowed, and the
// streams' results are what they are without it.
func TestShadow(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"raw": nil,
		"normalised": func(c *Config) {
			c.Normalise = sensors.NormaliseConfig{Mean: []float64{1}, Std: []float64{2}}
		},
		"windows": func(c *Config) {
			c.Input.Channels, c.Window, c.Features = []string{"v"}, &sensors.WindowConfig{Size: "1"}, []string{"mean"}
		},
		"tensor": func(c *Config) { c.Input.Raw = "tensor" },
	} {
		t.Run(name, func(t *testing.T) {
			one, two := sineVersions(t)
			if name == "tensor" { // the bytes fit both
				two.File = one.File
			}
			out := &everyOne{}
			p, e := pair(t, one, change, out)
			// The answers of version 2 to the same numbers, by itself.
			alone := &everyOne{}
			q, _ := pair(t, two, change, alone)
			type seen struct {
				id          string
				live, other float64
				input       float64
				same        bool
			}
			var got []seen
			b, stop := beside(t, p, e, BesideConfig{Shadow: 1, Tolerance: 0.05}, two, func(c Compared) {
				s := seen{c.Live.ID, c.Live.Infer.Values[0], c.Beside.Values[0], math.NaN(), c.Same}
				if len(c.Input) > 0 {
					s.input = c.Input[0]
				}
				if c.Beside.Version != "2" || c.Live.Infer.Version != "1" {
					t.Errorf("versions %q and %q", c.Live.Infer.Version, c.Beside.Version)
				}
				got = append(got, s)
			})
			const n = 50
			for _, w := range []*worker{p.table.Load().streams["s"].workers[0], q.table.Load().streams["s"].workers[0]} {
				for i := range n {
					it := floats(float64(i) / 10)
					w.handle(t.Context(), &it)
				}
				w.flush(t.Context())
			}
			until(t, "all compared", func() bool { return b.Counts().Samples+b.Counts().Dropped == n })
			stop()
			live, other := readAll(t, out.results), readAll(t, alone.results)
			if len(live) != n || len(got)+int(b.Counts().Dropped) != n || len(got) < n/2 {
				t.Fatalf("%d results, %d compared, %+v", len(live), len(got), b.Counts())
			}
			agreed := uint64(0)
			at := map[string]int{}
			for i, r := range live {
				at[r.ID] = i
				if r.Version != "1" {
					t.Errorf("a result is of version %q", r.Version)
				}
			}
			for _, s := range got {
				i := at[s.id]
				// A result has as many digits as a float32.
				if math.Abs(s.live-live[i].Values[0]) > 1e-6 || math.Abs(s.other-other[i].Values[0]) > 1e-6 {
					t.Errorf("%s: %v beside %v; the versions say %v and %v", s.id, s.live, s.other, live[i].Values[0], other[i].Values[0])
				}
				if want := float64(float32(i) / 10); name != "tensor" && math.Abs(s.input-want) > 1e-6 {
					t.Errorf("%s: recorded input %v, want %v", s.id, s.input, want)
				}
				if s.same {
					agreed++
				}
			}
			if c := b.Counts(); c.Agreed != agreed || agreed < uint64(len(got))/2 || c.Beside.Answers != uint64(len(got)) || c.Live.Answers != n || c.Beside.Version != "2" {
				t.Errorf("%+v, %d agreed", c, agreed)
			}
		})
	}
}

// A full queue drops for the shadow and never for the stream.
func TestShadowFull(t *testing.T) {
	one, two := sineVersions(t)
	out := &everyOne{}
	p, e := pair(t, one, nil, out)
	hold := make(chan struct{})
	b, stop := beside(t, p, e, BesideConfig{Shadow: 1, Tolerance: 1}, two, func(Compared) { <-hold })
	w := p.table.Load().streams["s"].workers[0]
	for i := range 500 {
		it := floats(float64(i) / 100)
		w.handle(t.Context(), &it)
		w.flush(t.Context())
	}
	if n := len(out.results); n != 500 || b.Counts().Dropped < 500-besideJobs-1 {
		t.Errorf("%d results, %+v", n, b.Counts())
	}
	close(hold)
	until(t, "the rest is compared", func() bool { return b.Counts().Samples+b.Counts().Dropped == 500 })
	stop()
	if b.waiting.Load() != 0 || len(b.free) != besideJobs {
		t.Errorf("%d bytes, %d of %d jobs", b.waiting.Load(), len(b.free), besideJobs)
	}
}

// The canary answers for its share of the sources, one by one and several at
// once, each source in order; where it fails the live version answers.
func TestCanary(t *testing.T) {
	one, two := sineVersions(t)
	out := &everyOne{}
	p, e := pair(t, one, nil, out)
	b, stop := beside(t, p, e, BesideConfig{Canary: 0.3}, two, nil)
	w := p.table.Load().streams["s"].workers[0]
	const sources, rounds = 60, 5
	push := func() {
		for round := range rounds {
			for s := range sources {
				it := floats(float64(round))
				it.source = fmt.Sprint("s", s)
				w.handle(t.Context(), &it)
			}
		}
		w.flush(t.Context())
	}
	push()
	by := map[string]map[string]int{}
	last := map[string]int{}
	canaries := 0
	for _, r := range readAll(t, out.results) {
		if by[r.Source] == nil {
			by[r.Source] = map[string]int{}
		}
		by[r.Source][r.Version]++
		if r.Seq != last[r.Source]+1 {
			t.Errorf("%s: %d behind %d", r.Source, r.Seq, last[r.Source])
		}
		last[r.Source] = r.Seq
	}
	for s, versions := range by {
		switch {
		case versions["2"] == rounds:
			canaries++
		case versions["1"] != rounds:
			t.Errorf("source %s was answered by %v", s, versions)
		}
	}
	if len(by) != sources || canaries < 8 || canaries > 30 {
		t.Errorf("%d canaries among %d sources", canaries, len(by))
	}
	if c := b.Counts(); c.Beside.Answers != uint64(canaries*rounds) || c.Live.Answers != uint64((sources-canaries)*rounds) {
		t.Errorf("%+v", c)
	}
	// Its interpreters are gone under the streams' hands.
	b.model.Load().Close()
	out.results = nil
	push()
	for _, r := range readAll(t, out.results) {
		if r.Version != "1" {
			t.Errorf("version %q answered", r.Version)
		}
	}
	if len(out.results) != sources*rounds {
		t.Errorf("%d results", len(out.results))
	}
	stop()
}

// Pictures go to both by reference, whatever size each version takes.
func TestShadowPictures(t *testing.T) {
	one := infer.ModelConfig{File: testkit.Shared(t, "models/mobilenet_v1_0.25_128_quant.tflite"), Labels: testkit.Shared(t, "models/imagenet_labels.txt"), Version: "1", Top: 5}
	two := one
	two.File, two.Version = testkit.Shared(t, "models/mobilenet_v2_1.0_224_quant.tflite"), "2"
	img := image.NewRGBA(image.Rect(0, 0, 160, 120))
	var frames [][]byte
	for k := range 3 {
		for y := range 120 {
			for x := range 160 {
				img.SetRGBA(x, y, color.RGBA{uint8(x * (k + 1)), uint8(y * 2), uint8((x ^ y) << k), 255})
			}
		}
		var buf bytes.Buffer
		if err := jpeg.Encode(&buf, img, nil); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, buf.Bytes())
	}
	picture := func(c *Config) { c.Input.Raw, c.Input.Image = "", "auto" }
	out, alone := &everyOne{}, &everyOne{}
	p, e := pair(t, one, picture, out)
	q, _ := pair(t, two, picture, alone)
	said := map[string]string{}
	b, stop := beside(t, p, e, BesideConfig{Shadow: 1}, two, func(c Compared) {
		said[c.Live.ID] = c.Beside.Label
		if len(c.Live.Picture) == 0 || c.Same != (c.Live.Infer.Label == c.Beside.Label) {
			t.Errorf("%d bytes, %v of %s and %s", len(c.Live.Picture), c.Same, c.Live.Infer.Label, c.Beside.Label)
		}
	})
	for _, w := range []*worker{p.table.Load().streams["s"].workers[0], q.table.Load().streams["s"].workers[0]} {
		for _, f := range frames {
			it := item{msg: broker.Message{Topic: "x/a", Payload: f, Received: time.Unix(1000, 0)}, source: "a"}
			w.handle(t.Context(), &it)
			w.flush(t.Context())
		}
	}
	until(t, "all compared", func() bool { return b.Counts().Samples == uint64(len(frames)) })
	stop()
	for _, js := range alone.results {
		var r struct{ ID, Label string }
		if err := json.Unmarshal(js, &r); err != nil || said[r.ID] != r.Label || r.Label == "" {
			t.Errorf("%s: %q beside the live one, %q alone (%v)", r.ID, said[r.ID], r.Label, err)
		}
	}
	c := b.Counts()
	var differ, pairs uint64
	for _, k := range c.Classes {
		differ += k.Differ
	}
	for _, k := range c.Pairs {
		pairs += k.Samples
	}
	if differ != c.Samples-c.Agreed || pairs != differ {
		t.Errorf("%+v", c)
	}
}

// A version that cannot take the live one's place is not put beside it.
func TestBesideRefused(t *testing.T) {
	one, _ := sineVersions(t)
	_, e := pair(t, one, nil, discard{})
	live, _ := e.Model("m")
	bad := infer.ModelConfig{File: testkit.Shared(t, "models/person_detect.tflite"), Version: "9"}
	b := NewBeside(BesideConfig{Shadow: 1}, live, func() (*infer.Model, error) { return e.Beside("m", bad, true, nil, nil) }, nil)
	if err := b.Run(t.Context()); err == nil {
		t.Error("it runs")
	}
	if !b.Counts().Begun.IsZero() {
		t.Errorf("%+v", b.Counts())
	}
	if _, err := e.Beside("other", one, false, nil, nil); err == nil {
		t.Error("beside a model that is not there")
	}
	m, err := e.Beside("m", one, false, func([]infer.TensorInfo) error { return errors.New("it does not fit") }, nil)
	if err == nil || m != nil {
		t.Error("it fits")
	}
}

// What a share picks is steady, and as large as the share.
func TestPicks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share := rapid.Float64Range(0.05, 0.95).Draw(t, "share")
		name := rapid.StringMatching(`[a-z0-9/]{1,12}`).Draw(t, "name")
		b := &Beside{cfg: BesideConfig{Shadow: share}}
		c := &Beside{cfg: BesideConfig{Canary: share}}
		var shadows, canaries int
		const n = 4000
		for i := range n {
			at := &slot{result: Result{Source: name, Seq: uint64(i)}}
			shadow, canary := b.picks(at)
			again, _ := b.picks(at)
			if canary || shadow != again {
				t.Fatalf("%v %v %v", shadow, canary, again)
			}
			if shadow {
				shadows++
			}
			at.result.Source = fmt.Sprint(name, i)
			if _, canary = c.picks(at); canary {
				canaries++
			}
		}
		for what, k := range map[string]int{"samples": shadows, "sources": canaries} {
			if got := float64(k) / n; math.Abs(got-share) > 6*math.Sqrt(share*(1-share)/n) {
				t.Errorf("%s: %v were picked, not %v", what, got, share)
			}
		}
	})
}

func TestAgree(t *testing.T) {
	class := func(label string) infer.Result { return infer.Result{Label: label, Top: []infer.Class{{Label: label}}} }
	nums := func(v ...float64) infer.Result { return infer.Result{Values: v} }
	objs := func(o ...infer.Object) infer.Result { return infer.Result{Objects: append([]infer.Object{}, o...)} }
	face := func(score, x float64) infer.Object {
		return infer.Object{Label: "face", Score: score, Box: [4]float64{x, 0.2, x + 0.2, 0.4}}
	}
	cat := face(0.9, 0.1)
	cat.Label = "cat"
	for _, c := range []struct {
		name        string
		live, other infer.Result
		same        bool
	}{
		{"the same class", class("a"), class("a"), true},
		{"another class", class("a"), class("b"), false},
		{"none below the threshold", class(""), class("b"), false},
		{"the same objects", objs(face(0.9, 0.1), face(0.8, 0.6)), objs(face(0.7, 0.61), face(0.9, 0.11)), true},
		{"one moved away", objs(face(0.9, 0.1)), objs(face(0.9, 0.3)), false},
		{"another label", objs(face(0.9, 0.1)), objs(cat), false},
		{"one more that is sure", objs(face(0.9, 0.1)), objs(face(0.9, 0.1), face(0.6, 0.6)), false},
		{"one more that is not", objs(face(0.9, 0.1)), objs(face(0.9, 0.1), face(0.4, 0.6)), true},
		{"nothing beside a doubt", objs(), objs(face(0.3, 0.6)), false},
		{"nothing beside nothing", objs(), infer.Result{}, true},
		{"near numbers", nums(1, 100), nums(1.04, 98), true},
		{"a far one", nums(1, 100), nums(1.04, 94), false},
		{"fewer", nums(1, 100), nums(1), false},
		{"scores alone", infer.Result{Score: 2}, infer.Result{Score: 2.09}, true},
		{"scores that differ", infer.Result{Score: 2}, infer.Result{Score: 2.2}, false},
	} {
		if a := (&agreement{tolerance: 0.05}); a.agree(&c.live, &c.other) != c.same {
			t.Errorf("%s: want %v", c.name, c.same)
		}
	}
	// The span of what was seen is the measure.
	a := agreement{tolerance: 0.05}
	for i, want := range []bool{true, true, true, false} {
		live := []float64{-100, 100, 0, 0}[i]
		other := []float64{-100, 100, 9, 11}[i]
		l, o := nums(live), nums(other)
		if a.agree(&l, &o) != want {
			t.Errorf("%v beside %v: want %v", other, live, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		box := rapid.Custom(func(t *rapid.T) [4]float64 {
			x, y := rapid.Float64Range(0, 1).Draw(t, "x"), rapid.Float64Range(0, 1).Draw(t, "y")
			return [4]float64{x, y, x + rapid.Float64Range(0, 1).Draw(t, "w"), y + rapid.Float64Range(0, 1).Draw(t, "h")}
		})
		p, q := box.Draw(t, "p"), box.Draw(t, "q")
		if u, v := overlap(p, q), overlap(q, p); math.Abs(u-v) > 1e-9 || u < 0 || u > 1+1e-9 {
			t.Fatalf("%v %v", u, v)
		}
		if u := overlap(p, p); (p[2]-p[0])*(p[3]-p[1]) > 1e-12 && math.Abs(u-1) > 1e-6 {
			t.Fatalf("with itself %v", u)
		}
	})
}

// A message that a shadow is asked too costs no allocation more, whether its
// queue is full or not; one without a shadow neither.
func TestShadowAllocations(t *testing.T) {
	one, two := sineVersions(t)
	p, e := pair(t, one, nil, discard{})
	b, stop := beside(t, p, e, BesideConfig{Shadow: 1, Tolerance: 0.05}, two, nil)
	w := p.table.Load().streams["s"].workers[0]
	it := floats(1)
	step := func() { w.handle(t.Context(), &it); w.flush(t.Context()) }
	for range 2000 {
		step()
	}
	if n := testing.AllocsPerRun(1000, step); n > 1 { // its id
		t.Errorf("%v allocations a message", n)
	}
	until(t, "something was compared", func() bool { return b.Counts().Samples > 0 })
	stop()
}

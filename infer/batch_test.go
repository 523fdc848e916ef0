package infer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"edgegateway/internal/testkit"
)

// what a model says to sample i: waves that differ in every number.
func wave(in []Tensor, i int) error {
	for k := range in {
		for j := range in[k].Len() {
			in[k].put(j, 0.5+0.5*math.Sin(float64(j*(i+1))*0.37+float64(i)))
		}
	}
	return nil
}

// Samples that go through the model together are answered as each is alone, to
// the last bit, on every delegate; one that cannot be filled costs itself.
func TestManyAreAnsweredAsAlone(t *testing.T) {
	for _, c := range []struct{ file, output string }{
		{"ad01_fp32", "reconstruction"}, {"ad01_int8", "reconstruction"}, {"hello_world_float", "raw"}, {"hello_world_int8", "raw"},
	} {
		for _, delegate := range []string{"builtin", "xnnpack:3"} {
			_, m := oneModel(t, ModelConfig{File: testkit.Shared(t, "models/"+c.file+".tflite"), Delegate: delegate, Output: c.output})
			if !m.Batches() {
				t.Fatalf("%s does not batch", c.file)
			}
			const n = 43 // twice 16, twice 4 and three are left
			bad := errors.New("cannot be filled")
			fill := func(i int, in []Tensor) error {
				if i == 7 {
					return bad
				}
				return wave(in, i)
			}
			var got [n]Result
			var errs [n]error
			taken := m.RunMany(t.Context(), n, fill, func(i int) *Result { return &got[i] }, errs[:])
			if delegate == "xnnpack:3" && c.file == "ad01_fp32" && taken < 32 {
				t.Errorf("%s on %s: %d of %d were taken together", c.file, delegate, taken, n)
			}
			for i := range taken {
				if i == 7 {
					if !errors.Is(errs[i], bad) {
						t.Errorf("sample 7: %v", errs[i])
					}
					continue
				}
				var want Result
				if err := errors.Join(errs[i], m.Run(t.Context(), func(in []Tensor) error { return wave(in, i) }, &want)); err != nil {
					t.Fatal(err)
				}
				if got[i].Score != want.Score || !slices.Equal(got[i].Values, want.Values) || got[i].Model != "m" || got[i].Delegate != delegate || got[i].Took <= 0 {
					t.Errorf("%s on %s, sample %d: %+v, alone %+v", c.file, delegate, i, got[i], want)
				}
			}
		}
	}
}

// A model of convolutions does not keep its samples apart; a recurrent one
// must not.
func TestWhatDoesNotBatch(t *testing.T) {
	for _, file := range []string{"vww_96_int8", "trained_lstm", "movie_review", "detect"} {
		_, m := oneModel(t, ModelConfig{File: testkit.Shared(t, "models/"+file+".tflite"), Delegate: "builtin", Output: "raw"})
		if m.Batches() {
			t.Errorf("%s batches", file)
		}
	}
}

// Many callers at once, while the model is reloaded under them: every answer is
// its sample's, and nothing is left open at the end.
func TestManyUnderReload(t *testing.T) {
	file := testkit.Shared(t, "models/hello_world_float.tflite")
	e, m := oneModel(t, ModelConfig{File: file, Delegate: "xnnpack:3", Output: "raw"})
	want := make([]float64, 16)
	for i := range want {
		var r Result
		if err := m.Run(t.Context(), func(in []Tensor) error { return wave(in, i) }, &r); err != nil {
			t.Fatal(err)
		}
		want[i] = r.Values[0]
	}
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 4 {
		wg.Go(func() {
			var r [16]Result
			var errs [16]error
			for ctx.Err() == nil {
				m, err := e.Model("m")
				if err != nil {
					t.Error(err)
					return
				}
				n := m.RunMany(ctx, 16, func(i int, in []Tensor) error { return wave(in, i) }, func(i int) *Result { return &r[i] }, errs[:])
				for i := range n {
					if errs[i] != nil || r[i].Values[0] != want[i] {
						t.Errorf("sample %d: %v, %v, want %v", i, r[i].Values, errs[i], want[i])
						return
					}
				}
			}
		})
	}
	for k := range 20 {
		cfg := DefaultConfig()
		cfg.Workers = 1 + k%3
		if err := e.Reload(cfg, map[string]ModelConfig{"m": {File: file, Delegate: "xnnpack:3", Output: "raw", Top: 5}}); err != nil {
			t.Error(err)
		}
	}
	stop()
	wg.Wait()
}

// Samples together cost no allocation once the interpreter is there.
func TestManyAllocateNothing(t *testing.T) {
	_, m := oneModel(t, ModelConfig{File: testkit.Shared(t, "models/ad01_fp32.tflite"), Delegate: "xnnpack:3", Output: "reconstruction"})
	var r [16]Result
	var errs [16]error
	fill := func(i int, in []Tensor) error { return wave(in, i) }
	answer := func(i int) *Result { return &r[i] }
	run := func() {
		if n := m.RunMany(t.Context(), 16, fill, answer, errs[:]); n != 16 {
			t.Fatal(fmt.Errorf("%d of 16", n))
		}
	}
	run()
	if n := testing.AllocsPerRun(100, run); n > 0 && !raceDetector {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkMany is one sample's share of 16 together.
func BenchmarkMany(b *testing.B) {
	_, m := oneModel(b, ModelConfig{File: testkit.Shared(b, "models/ad01_fp32.tflite"), Delegate: "xnnpack:3", Output: "reconstruction"})
	var r [16]Result
	var errs [16]error
	fill := func(i int, in []Tensor) error { return nil }
	answer := func(i int) *Result { return &r[i] }
	b.ReportAllocs()
	for b.Loop() {
		m.RunMany(b.Context(), 16, fill, answer, errs[:])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/16, "ns/sample")
}

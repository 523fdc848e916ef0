package infer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"edgegateway/internal/testkit"
)

// twoVersions are two models that take and give the same and answer otherwise,
// and what they answer to i/2.
func twoVersions(t testing.TB) (versions [2]ModelConfig, answers [2][8]float64) {
	t.Helper()
	needLibrary(t)
	for i, name := range []string{"hello_world_float", "hello_world_int8"} {
		versions[i] = ModelConfig{
			File:   testkit.Shared(t, "models/"+name+".tflite"),
			Output: "regression", Delegate: "builtin", Version: []string{"1", "2"}[i],
		}
		_, m := oneModel(t, versions[i])
		for x := range answers[i] {
			answers[i][x] = ask(t, m, float64(x)/2)
		}
	}
	for x := range 8 {
		if answers[0][x] == answers[1][x] {
			t.Fatalf("the versions cannot be told apart at %d", x)
		}
	}
	return versions, answers
}

// TestSwapUnderLoad: callers hold the model and never look for another one;
// each message is answered by the version that its result names, one by one
// and several at once, and no interpreter is left.
func TestSwapUnderLoad(t *testing.T) {
	versions, answers := twoVersions(t)
	e := newEngine(t, t.TempDir(), nil, map[string]ModelConfig{"m": versions[0]})
	m, err := e.Model("m")
	if err != nil {
		t.Fatal(err)
	}
	lib := m.live.Load().lib
	before := lib.Interpreters()
	right := func(x int, r *Result) bool {
		v := map[string]int{"1": 0, "2": 1}[r.Version]
		return r.Version != "" && r.Values[0] == answers[v][x]
	}
	ctx, stop := context.WithCancel(t.Context())
	var by [2]atomic.Int64
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			var r [16]Result
			var errs [16]error
			at := func(i int) float64 { return float64((g+i)%8) / 2 }
			for i := 0; ctx.Err() == nil; i++ {
				n := 0
				if g%2 == 0 {
					n = m.RunMany(context.Background(), 16, func(i int, in []Tensor) error { return in[0].SetFloats([]float64{at(i)}) }, func(i int) *Result { return &r[i] }, errs[:])
				}
				for k := range r {
					if k >= n {
						r[k].Reset()
						errs[k] = m.Run(context.Background(), func(in []Tensor) error { return in[0].SetFloats([]float64{at(k)}) }, &r[k])
					}
					if errs[k] != nil || !right((g+k)%8, &r[k]) {
						t.Errorf("sample %d: %+v, %v", k, r[k], errs[k])
						return
					}
					by[r[k].Version[0]-'1'].Add(1)
				}
			}
		})
	}
	for i := range 60 {
		was := by[i%2].Load()
		await(t, "the version at work answers", func() bool { return by[i%2].Load() > was })
		if err := e.Swap("m", versions[(i+1)%2], nil, nil); err != nil {
			t.Error(err)
			break
		}
	}
	stop()
	wg.Wait()
	if m.Version() != "1" {
		t.Errorf("version %q is at work", m.Version())
	}
	await(t, "the old interpreters are gone", func() bool { return lib.Interpreters() <= before+2*len(widths)*len(m.live.Load().serving.Load().idle) })
}

// What does not fit is refused by name, and the version at work goes on.
func TestSwapRefuses(t *testing.T) {
	versions, answers := twoVersions(t)
	broken := filepath.Join(t.TempDir(), "broken.tflite")
	write(t, broken, "this is no model")
	for name, c := range map[string]struct {
		cfg  ModelConfig
		fits func([]TensorInfo) error
		want string
	}{
		"no model":          {ModelConfig{File: broken}, nil, "model m: version 7: broken.tflite"},
		"no file":           {ModelConfig{File: "none.tflite"}, nil, "no such file"},
		"other meaning":     {ModelConfig{File: versions[1].File, Output: "classes"}, nil, "its output is read as classes, that of the one at work as numbers"},
		"other numbers":     {ModelConfig{File: testkit.Shared(t, "models/vww_96_int8.tflite"), Output: "raw"}, nil, "it gives other numbers"},
		"other inputs":      {ModelConfig{File: testkit.Shared(t, "models/audio_preprocessor_int8.tflite"), Output: "raw"}, func(in []TensorInfo) error { return errors.New("takes sound") }, ""},
		"fits says no":      {ModelConfig{File: versions[1].File, Output: "regression"}, func([]TensorInfo) error { return errors.New("the stream s has no such numbers") }, "version 7: the stream s has no such numbers"},
		"labels that fail":  {ModelConfig{File: versions[1].File, Output: "classes", Labels: "none.txt"}, nil, "none.txt"},
		"a name not theirs": {ModelConfig{}, nil, "there is no model"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, t.TempDir(), nil, map[string]ModelConfig{"m": versions[0]})
			m, err := e.Model("m")
			if err != nil {
				t.Fatal(err)
			}
			// This engine's, and those that twoVersions asked.
			all := 3 * m.live.Load().serving.Load().size
			await(t, "earlier engines are freed", func() bool { return m.live.Load().lib.Interpreters() == all })
			c.cfg.Version = "7"
			model := "m"
			if c.cfg.File == "" {
				model = "n"
			}
			if err := e.Swap(model, c.cfg, c.fits, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if got := ask(t, m, 1); got != answers[0][2] || m.Version() != "1" {
				t.Errorf("afterwards version %s answers %v", m.Version(), got)
			}
			await(t, "what was refused is freed", func() bool { return m.live.Load().lib.Interpreters() == all })
		})
	}
}

// A closed model takes no version, and says so to those who run it.
func TestSwapOfClosed(t *testing.T) {
	versions, _ := twoVersions(t)
	e := newEngine(t, t.TempDir(), nil, map[string]ModelConfig{"m": versions[0]})
	m, err := e.Model("m")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Swap("m", versions[1], nil, nil); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := m.Run(t.Context(), func([]Tensor) error { return nil }, &Result{}); err != ErrClosed {
		t.Error(err)
	}
}

// A reload leaves the version that was swapped in alone where it names it, and
// a pinned version stands beside.
func TestReloadKeepsVersion(t *testing.T) {
	versions, answers := twoVersions(t)
	e := newEngine(t, t.TempDir(), nil, map[string]ModelConfig{"m": versions[0], "m@2": versions[1]})
	m, _ := e.Model("m")
	pinned, err := e.Model("m@2")
	if err != nil {
		t.Fatal(err)
	}
	var r Result
	if err := pinned.Run(t.Context(), func(in []Tensor) error { return in[0].SetFloats([]float64{1}) }, &r); err != nil || r.Model != "m" || r.Version != "2" || r.Values[0] != answers[1][2] {
		t.Errorf("the pinned one: %+v, %v", r, err)
	}
	if err := e.Swap("m", versions[1], nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Reload(e.cfg, map[string]ModelConfig{"m": versions[1]}); err != nil {
		t.Fatal(err)
	}
	if after, err := e.Model("m"); err != nil || after != m {
		t.Errorf("the reload made another model, %v", err)
	}
	if got := ask(t, m, 1); got != answers[1][2] {
		t.Errorf("afterwards %v", got)
	}
	if err := pinned.Run(t.Context(), func([]Tensor) error { return nil }, &r); err != ErrClosed {
		t.Errorf("the pinned one that left: %v", err)
	}
}

// What a pre-flight measured is taken over: no trial follows.
func TestSwapTakesTrial(t *testing.T) {
	versions, _ := twoVersions(t)
	var asked atomic.Int64
	trial := func(_ context.Context, req TrialRequest) ([]CandidateReport, error) {
		asked.Add(1)
		return []CandidateReport{{Name: "builtin", OK: true, Micros: 2}}, nil
	}
	for i := range versions {
		versions[i].Delegate = "auto"
	}
	dir := t.TempDir()
	e := newEngine(t, dir, trial, map[string]ModelConfig{"m": versions[0]})
	m, _ := e.Model("m")
	e.tend(t.Context(), m.live.Load())
	if asked.Load() != 1 {
		t.Fatalf("%d trials", asked.Load())
	}
	tried := []CandidateReport{{Name: "builtin", OK: true, Micros: 9}, {Name: "xnnpack:3", OK: true, Micros: 1}}
	if err := e.Swap("m", versions[1], nil, tried); err != nil {
		t.Fatal(err)
	}
	e.tend(t.Context(), m.live.Load())
	s := e.Models()[0]
	if s.Delegate != "xnnpack:3" || s.Trying || asked.Load() != 1 || s.Version != "2" {
		t.Errorf("%+v after %d trials", s, asked.Load())
	}
	if kept, err := os.ReadDir(dir); err != nil || len(kept) != 2 {
		t.Errorf("%d choices are remembered, %v", len(kept), err)
	}
}

// Times are counted in classes that are at most a quarter too long.
func TestCountedTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(4, int64(time.Hour)).Draw(t, "time"))
		if end := bucketEnd(bucketOf(d)); end < d || end > d+d/4 {
			t.Fatalf("%v is counted as up to %v", d, end)
		}
	})
	var c counts
	for i := range 100 {
		c.answered(time.Duration(i+1) * time.Millisecond)
	}
	first := c.read("1")
	c.failed(25)
	for range 75 {
		c.answered(time.Second)
	}
	later := c.read("1").Since(first)
	if q := first.Quantile(0.5); q < 45*time.Millisecond || q > 55*time.Millisecond {
		t.Errorf("the median of 1 to 100 ms is %v", q)
	}
	if q := first.Quantile(1); q < 100*time.Millisecond || q > 125*time.Millisecond {
		t.Errorf("the longest of 1 to 100 ms is %v", q)
	}
	if later.Answers != 75 || later.Failed() != 0.25 || later.Quantile(0.01) < 900*time.Millisecond {
		t.Errorf("%d answers, %v failed, %v", later.Answers, later.Failed(), later.Quantile(0.01))
	}
	if other := c.read("2").Since(first); other.Answers != 175 {
		t.Errorf("of another version %d are left", other.Answers)
	}
	if (Counts{}).Quantile(0.99) != 0 || (Counts{}).Failed() != 0 {
		t.Error("nothing has a time")
	}
}

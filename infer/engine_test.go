package infer

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/infer/tflite"
	"edgegateway/internal/testkit"
)

// The test binary is its own child: of trials, of pre-flights, and of damaged
// models.
func TestMain(m *testing.M) {
	if os.Getenv("INFER_DAMAGED_CHILD") != "" {
		runDamaged(os.Stdin, os.Stdout)
		os.Exit(0)
	}
	if os.Getenv("INFER_PREFLIGHT_CHILD") != "" {
		if err := RunPreflight(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv("INFER_TRIAL_CHILD") != "" {
		if err := RunTrial(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func needLibrary(t testing.TB) {
	t.Helper()
	if _, err := tflite.Open(""); err != nil {
		testkit.Missing(t, "%v", err)
	}
}

func child(t testing.TB) TrialFunc {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("INFER_TRIAL_CHILD", "1")
	return ChildTrial(exe)
}

func newEngine(t testing.TB, dir string, trial TrialFunc, models map[string]ModelConfig) *Engine {
	t.Helper()
	needLibrary(t)
	e, err := New(DefaultConfig(), models, dir, trial, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func sine(t testing.TB) map[string]ModelConfig {
	return map[string]ModelConfig{"sine": {File: testkit.Shared(t, "models/hello_world_float.tflite"), Output: "regression"}}
}

func ask(t testing.TB, m *Model, x float64) float64 {
	t.Helper()
	var r Result
	if err := m.Run(t.Context(), func(in []Tensor) error { return in[0].SetFloats([]float64{x}) }, &r); err != nil {
		t.Fatal(err)
	}
	return r.Values[0]
}

// The engine serves at once, tries the candidates meanwhile, takes one and
// remembers it.
func TestTrialChoosesAndRemembers(t *testing.T) {
	dir := t.TempDir()
	e := newEngine(t, dir, child(t), sine(t))
	m, err := e.Model("sine")
	if err != nil {
		t.Fatal(err)
	}
	if s := e.Models()[0]; s.Delegate != "builtin" || !s.Trying {
		t.Errorf("before the trial: %+v", s)
	}
	if y := ask(t, m, 1); math.Abs(y-math.Sin(1)) > 0.1 {
		t.Errorf("sin(1) is %v", y)
	}
	e.tend(t.Context(), m.live.Load())
	s := e.Models()[0]
	if s.Trying || len(s.Candidates) < 5 || !strings.HasPrefix(s.Why, "fastest of") {
		t.Errorf("after the trial: %+v", s)
	}
	if y := ask(t, m, 1); math.Abs(y-math.Sin(1)) > 0.1 {
		t.Errorf("sin(1) on %s is %v", s.Delegate, y)
	}
	again := newEngine(t, dir, func(context.Context, TrialRequest) ([]CandidateReport, error) {
		t.Error("measured again")
		return nil, nil
	}, sine(t))
	if a := again.Models()[0]; a.Delegate != s.Delegate || a.Trying {
		t.Errorf("after a restart: %+v", a)
	}
}

// Quantized models get XNNPACK with its int8 flags; those that XNNPACK
// refuses stay on the built-in kernels.
func TestTrialOfRealModels(t *testing.T) {
	trial := child(t)
	for name, want := range map[string]string{"kws_ref_model.tflite": "xnnpack:", "mobilenet_v1_0.25_128_quant.tflite": ""} {
		reports, err := trial(t.Context(), TrialRequest{File: testkit.Shared(t, "models/"+name), Candidates: []string{"builtin", "xnnpack:0", "xnnpack:3"}})
		if err != nil {
			t.Fatal(err)
		}
		c := choose(reports, "auto")
		if !strings.HasPrefix(c.Delegate, want) {
			t.Errorf("%s: %+v", name, c)
		}
		t.Logf("%s: %+v", name, c)
	}
}

func TestChildThatCannotStart(t *testing.T) {
	e := newEngine(t, t.TempDir(), ChildTrial(filepath.Join(t.TempDir(), "none")), sine(t))
	m, _ := e.Model("sine")
	e.tend(t.Context(), m.live.Load())
	if s := e.Models()[0]; s.Delegate != "builtin" || s.Trying || !strings.Contains(s.Why, "cannot be started") {
		t.Errorf("%+v", s)
	}
	ask(t, m, 1)
}

func TestRefused(t *testing.T) {
	needLibrary(t)
	empty := filepath.Join(t.TempDir(), "empty.tflite")
	if err := os.WriteFile(empty, []byte("no model"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, file := range map[string]string{
		"models.m.file: person_detect.tflite": testkit.Shared(t, "models/person_detect.tflite"),
		"models.m.file: empty.tflite":         empty,
		"no such file":                        filepath.Join(t.TempDir(), "x"),
	} {
		_, err := New(DefaultConfig(), map[string]ModelConfig{"m": {File: file}}, t.TempDir(), nil, zerolog.Nop(), prometheus.NewRegistry())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}

// Answers belong to their input while delegates and models are swapped under
// many callers.
func TestAnswersBelongToTheirInput(t *testing.T) {
	e := newEngine(t, t.TempDir(), nil, sine(t))
	m, err := e.Model("sine")
	if err != nil {
		t.Fatal(err)
	}
	want := map[float64]float64{}
	for i := range 8 {
		want[float64(i)/2] = ask(t, m, float64(i)/2)
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			var r Result
			for i := range 2000 {
				x := float64((g+i)%8) / 2
				r.Reset()
				if err := m.Run(t.Context(), func(in []Tensor) error { return in[0].SetFloats([]float64{x}) }, &r); err != nil {
					t.Error(err)
					return
				}
				if d := math.Abs(r.Values[0] - want[x]); d > 1e-5 {
					t.Errorf("for %v: %v, want %v", x, r.Values[0], want[x])
					return
				}
			}
		})
	}
	for i := range 20 {
		p, err := m.live.Load().open([]string{"builtin", "xnnpack:0", "xnnpack:3"}[i%3])
		if err != nil {
			t.Fatal(err)
		}
		m.live.Load().swap(p)
	}
	wg.Wait()
}

func TestTrialRequestWithoutCandidates(t *testing.T) {
	var out bytes.Buffer
	if err := RunTrial(t.Context(), strings.NewReader("{}"), &out); err == nil {
		t.Error("a request without candidates was taken")
	}
}

func BenchmarkRun(b *testing.B) {
	e := newEngine(b, b.TempDir(), nil, sine(b))
	m, err := e.Model("sine")
	if err != nil {
		b.Fatal(err)
	}
	var r Result
	x := []float64{1}
	fill := func(in []Tensor) error { return in[0].SetFloats(x) }
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if err := m.Run(b.Context(), fill, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

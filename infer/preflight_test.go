package infer

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"edgegateway/infer/model"
	"edgegateway/internal/testkit"
)

func preflightChild(t testing.TB) PreflightFunc {
	t.Helper()
	needLibrary(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("INFER_PREFLIGHT_CHILD", "1")
	return ChildPreflight(exe)
}

// preflighted runs a pre-flight that must be made, whatever it says.
func preflighted(t *testing.T, req PreflightRequest, gate func() bool) *PreflightReport {
	t.Helper()
	req.Eager = true // tests run on boxes that have no time left
	r, err := preflightChild(t)(t.Context(), req, gate)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", r.Text())
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	return r
}

// answersOf makes golden files of what a model says now, changed by some.
func answersOf(t *testing.T, path string, change func(out []Tensor)) GoldenFiles {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenSession(data, "builtin", "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fixedInput(s.In, 1)
	dir := t.TempDir()
	write := func(name string, x Tensor) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, x.Data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	var g GoldenFiles
	for i, x := range s.In {
		g.Inputs = append(g.Inputs, write("in"+string(rune('0'+i)), x))
	}
	if err := s.Invoke(); err != nil {
		t.Fatal(err)
	}
	out := clones(s.Out)
	change(out)
	for i, x := range out {
		g.Outputs = append(g.Outputs, write("out"+string(rune('0'+i)), x))
	}
	return g
}

func kept(name string) string { return filepath.Join("model", "testdata", name+".tflite") }

// The child that everything else goes before comes to the same end.
func TestPreflightOfLowestPriority(t *testing.T) {
	r, err := preflightChild(t)(t.Context(), PreflightRequest{Model: ModelConfig{File: kept("dense_int8"), Delegate: "builtin"}, Calls: 5}, nil)
	if err != nil || !r.OK {
		t.Errorf("%v %+v", err, r)
	}
}

// A good version passes every check, with golden answers, beside what serves.
func TestPreflightOfGoodModels(t *testing.T) {
	for _, name := range []string{"kws_ref_model", "hello_world_float"} {
		t.Run(name, func(t *testing.T) {
			path := testkit.Shared(t, "models/"+name+".tflite")
			golden := []GoldenFiles{answersOf(t, path, func([]Tensor) {})}
			r := preflighted(t, PreflightRequest{Model: ModelConfig{File: path}, Live: &ModelConfig{File: path}, Golden: golden, Calls: 300}, nil)
			if !r.OK || len(r.Checks) != 7 || len(r.SHA256) != 64 {
				t.Fatalf("%+v", r)
			}
			for i, name := range []string{CheckLoads, CheckGolden, CheckAgree, CheckTime, CheckMemory, CheckCrash, CheckLeak} {
				if r.Checks[i].Name != name {
					t.Errorf("check %d is %s", i, r.Checks[i].Name)
				}
			}
			if r.P50 <= 0 || r.P99 < r.P50 || r.WallP50 < r.P50 || r.LiveP50 <= 0 || r.Slower <= 0 || r.Calls != 300 || r.Delegate == "" || len(r.Candidates) < 5 {
				t.Errorf("%+v", r)
			}
			chosen := 0
			for _, c := range r.Candidates {
				if c.Chosen {
					chosen++
				}
			}
			if chosen != 1 {
				t.Errorf("%d chosen of %+v", chosen, r.Candidates)
			}
		})
	}
}

// Every bad model fails by name, with what is wrong, and nothing but the child
// comes to harm.
func TestPreflightOfBadModels(t *testing.T) {
	sine := testkit.Shared(t, "models/hello_world_float.tflite")
	whole, err := os.ReadFile(sine)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, b []byte) ModelConfig {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return ModelConfig{File: path}
	}
	random := make([]byte, 5000)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	flipped := append([]byte(nil), whole...)
	for i := 8; i < 400; i++ {
		flipped[i] ^= 0x55
	}
	one := ModelConfig{File: sine, Delegate: "builtin"}

	// What serves meanwhile makes no error.
	e := newEngine(t, t.TempDir(), nil, map[string]ModelConfig{"sine": {File: sine, Output: "regression"}})
	m, err := e.Model("sine")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		var r Result
		for ctx.Err() == nil {
			if err := m.Run(t.Context(), func(in []Tensor) error { return in[0].SetFloats([]float64{1}) }, &r); err != nil || math.Abs(r.Values[0]-math.Sin(1)) > 0.1 {
				t.Errorf("the live model says %v, %v", r.Values, err)
				return
			}
			<-tick.C
		}
	})
	defer func() {
		stop()
		serving.Wait()
		if n := m.Counts(); n.Answers == 0 || n.Failures > 0 {
			t.Errorf("%d answers and %d failures of the live model", n.Answers, n.Failures)
		}
	}()

	for _, c := range []struct {
		name  string
		req   PreflightRequest
		check string // that fails
		words string // of its reason
	}{
		{"missing", PreflightRequest{Model: ModelConfig{File: filepath.Join(dir, "none")}}, CheckLoads, "no such file"},
		{"empty", PreflightRequest{Model: file("empty", nil)}, CheckLoads, "TFL3"},
		{"truncated", PreflightRequest{Model: file("cut", whole[:len(whole)/2])}, CheckLoads, "not a valid .tflite file"},
		{"random", PreflightRequest{Model: file("random", random)}, CheckLoads, "not a valid .tflite file"},
		{"flipped", PreflightRequest{Model: file("flipped", flipped)}, CheckLoads, "not a valid .tflite file"},
		{"labels that are not there", PreflightRequest{Model: ModelConfig{File: sine, Output: "classes", Labels: filepath.Join(dir, "none")}}, CheckLoads, "labels"},
		{"wrong answers", PreflightRequest{Model: one, Golden: []GoldenFiles{answersOf(t, sine, func(out []Tensor) { putFloat(out[0].Data, 7) })}}, CheckGolden, "not 7: "},
		{"an answer of another size", PreflightRequest{Model: one, Golden: []GoldenFiles{answersOf(t, sine, func(out []Tensor) { out[0].Data = out[0].Data[:2] })}}, CheckGolden, "4 bytes; the file has 2"},
		{"sparse weights, checked", PreflightRequest{Model: ModelConfig{File: kept("dense_int8_sparse")}}, CheckLoads, "sparse int8 weights"},
		{"an endless loop", PreflightRequest{Model: ModelConfig{File: kept("troubled/while_endless")}, Patience: 300 * time.Millisecond}, CheckCrash, "it gives no answer"},
		{"too slow", PreflightRequest{Model: ModelConfig{File: testkit.Shared(t, "models/kws_ref_model.tflite"), Delegate: "builtin"}, Live: &one, Calls: 50}, CheckTime, "10 times is too slow where no limit is named"},
		{"over its limit", PreflightRequest{Model: one, Limits: Limits{Millis: 1e-9}, Calls: 50}, CheckTime, "the limit is p99 1e-09 ms"},
		// One that takes more than what the process has at hand anyway.
		{"over its memory", PreflightRequest{Model: ModelConfig{File: testkit.Shared(t, "models/vww_96_int8.tflite")}, Limits: Limits{MemoryBytes: 1000}, Calls: 2}, CheckMemory, "the limit is 0.0 MB"},
		{"over the trial's memory", PreflightRequest{Model: ModelConfig{File: testkit.Shared(t, "models/pretrainedResnet.tflite")}, Memory: 1 << 20}, CheckMemory, "the trial allows 1 MB"},
		{"a leak", PreflightRequest{Model: ModelConfig{File: kept("troubled/variable_grows"), Delegate: "builtin"}, Calls: 600}, CheckLeak, "bytes a call"},
		{"a delegate that is none", PreflightRequest{Model: ModelConfig{File: sine, Delegate: "xnnpack:9"}}, CheckLoads, "on xnnpack:9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := preflighted(t, c.req, nil)
			var failed []string
			why := ""
			for _, k := range r.Checks {
				if !k.OK {
					failed, why = append(failed, k.Name), k.Why
				}
			}
			if r.OK || len(failed) != 1 || failed[0] != c.check || !strings.Contains(why, c.words) || !strings.Contains(r.Why, c.check+": ") {
				t.Errorf("%v failed: %s; want %s: %s", failed, r.Why, c.check, c.words)
			}
		})
	}
}

// A model that ends the process of the runtime, handed to it past the check.
func TestPreflightOfCrash(t *testing.T) {
	data := crashing(t)
	path := filepath.Join(t.TempDir(), "sparse.tflite")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r := preflighted(t, PreflightRequest{Model: ModelConfig{File: path}}, nil)
	if r.OK || r.Checks[0].Name != CheckLoads || !strings.Contains(r.Why, "sparse") {
		t.Errorf("checked: %s", r.Why)
	}
	r = preflighted(t, PreflightRequest{Model: ModelConfig{File: path}, Unchecked: true}, nil)
	last := r.Checks[len(r.Checks)-1]
	if r.OK || last.Name != CheckCrash || !strings.Contains(last.Why, "it ended its process") || !strings.Contains(last.Why, "SIG") {
		t.Errorf("unchecked: %+v", r)
	}
}

// crashing is a dense layer of many weights of which the file holds few, in
// sparse rows: the runtime reads on behind them.
func crashing(t *testing.T) []byte {
	t.Helper()
	const n = 8192
	dims := []model.SparseDim{{Size: n}, {Sparse: true, Size: n, Segments: make([]int32, n+1), Indices: []int32{0}}}
	for i := range dims[1].Segments[1:] {
		dims[1].Segments[1+i] = 1
	}
	q := model.Quantization{Scale: []float32{0.1}, ZeroPoint: []int64{0}}
	m := &model.Model{Version: 3, Subgraphs: []model.Subgraph{{
		Name: "main", Inputs: []int{0}, Outputs: []int{2},
		Tensors: []model.Tensor{
			{Name: "in", Type: model.Int8, Shape: []int{1, n}, Quant: q},
			{Name: "weights", Type: model.Int8, Shape: []int{n, n}, Quant: q, Buffer: []byte{1}, Sparsity: &model.Sparsity{Traversal: []int{0, 1}, Dims: dims}},
			{Name: "out", Type: model.Int8, Shape: []int{1, n}, Quant: q},
		},
		Ops: []model.Op{{Code: "FULLY_CONNECTED", Version: 4, Inputs: []int{0, 1, -1}, Outputs: []int{2}, Builtin: &model.FullyConnectedOptions{}}},
	}}}
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A child says what it likes when a model wrote over its memory: the parent
// stays whole, and its report can be written.
func FuzzPreflightWords(f *testing.F) {
	f.Add([]byte(`{"check":{"name":"loads","ok":true,"why":"1"}}
{"candidate":{"name":"builtin","ok":true,"us":3}}
{"figures":{"Own":[1,2],"Live":0,"Calls":3}}
{"begin":"time","on":"builtin"}
nonsense`))
	f.Fuzz(func(t *testing.T, said []byte) {
		var c conductor
		for line := range bytes.Lines(said) {
			var w preflightWord
			if json.Unmarshal(line, &w) == nil {
				c.take(w)
			}
		}
		req := PreflightRequest{}
		req.defaults()
		if c.figures != nil {
			c.report.Checks = append(c.report.Checks, c.figures.checks(&req)...)
		}
		c.report.judge()
		_ = c.report.Text()
		if _, err := json.Marshal(c.report); err != nil {
			t.Error(err)
		}
	})
}

// Golden answers are held against outputs of each kind.
func TestGoldens(t *testing.T) {
	float := func(v ...float64) Tensor { return floats32(nil, v...) }
	steps := func(b ...byte) Tensor { return Tensor{Type: Uint8, Shape: []int{len(b)}, Scale: 0.1, Data: b} }
	whole := func(b ...byte) Tensor { return Tensor{Type: Uint8, Shape: []int{len(b)}, Data: b} }
	for _, c := range []struct {
		name      string
		want, got Tensor
		tolerance float64
		off       float64
		right     bool
	}{
		{"the same", float(0, 10), float(0, 10), 0, 0, true},
		{"a little off", float(0, 10), float(0.005, 10), 0, 0.0005, true},
		{"too far off", float(0, 10), float(0.05, 10), 0, 0.005, false},
		{"within its own tolerance", float(0, 10), float(0.5, 10), 0.1, 0.05, true},
		{"one number", float(10), float(10.005), 0, 0.0005, true},
		{"no number", float(0, 10), float(0, math.NaN()), 0, math.Inf(1), false},
		{"none as it shall be", float(0, math.NaN()), float(0, math.NaN()), 0, 0, true},
		{"endless", float(0, math.Inf(1)), float(0, 5), 0, math.Inf(1), false},
		{"steps", steps(10, 20), steps(16, 20), 0, 6, true},
		{"more steps", steps(10, 20), steps(17, 20), 0, 7, false},
		{"fewer are allowed", steps(10, 20), steps(12, 20), 1, 2, false},
		{"an index", whole(3), whole(4), 0, 1, false},
		{"an index that may be off", whole(3), whole(4), 1, 1, true},
	} {
		g := &goldens{list: []golden{{name: "answer 1", out: [][]byte{c.want.Data}, tolerance: c.tolerance}}}
		if err := g.look([]Tensor{c.got}); err != nil {
			t.Fatal(err)
		}
		m, err := g.compare(0, []Tensor{c.got})
		if err != nil || (m.share() <= 1) != c.right || math.Abs(m.off-c.off) > 1e-6 {
			t.Errorf("%s: %+v %v", c.name, m, err)
		}
	}
}

// Where a tensor inside a model grows, its inputs lie elsewhere afterwards.
func TestInputsThatMove(t *testing.T) {
	needLibrary(t)
	data, err := os.ReadFile(kept("troubled/variable_grows"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenSession(data, "builtin", "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := range 300 {
		for i := range s.In[0].Len() {
			putFloat(s.In[0].Data[4*i:], float32(n+i))
		}
		if err := s.Invoke(); err != nil {
			t.Fatal(err)
		}
		for i := range s.Out[0].Len() {
			if got := s.Out[0].Float(i); got != float64(2*(n+i)) {
				t.Fatalf("call %d: element %d is %v, not %v", n, i, got, 2*(n+i))
			}
		}
	}
}

// A child whose parent is gone ends, also in the middle of a model that gives
// no answer.
func TestPreflightChildWithoutParent(t *testing.T) {
	needLibrary(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), "INFER_PREFLIGHT_CHILD=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	enc := json.NewEncoder(in)
	if err := enc.Encode(preflightWork{PreflightRequest: PreflightRequest{Model: ModelConfig{File: kept("troubled/while_endless")}, Eager: true}}); err != nil {
		t.Fatal(err)
	}
	for dec := json.NewDecoder(out); ; {
		var w preflightWord
		if err := dec.Decode(&w); err != nil {
			t.Fatal(err)
		}
		if w.Ask {
			if err := enc.Encode("go"); err != nil {
				t.Fatal(err)
			}
		}
		if w.Begin == CheckAgree { // it does not come back from there
			break
		}
	}
	in.Close()
	if err := cmd.Wait(); err == nil || t.Context().Err() != nil {
		t.Errorf("it ended with %v", err)
	}
}

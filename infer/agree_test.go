package infer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// TestDisagree: the bounds are shares of the range, steps, and the same best.
func TestDisagree(t *testing.T) {
	differ := func(ref, got []Tensor) string {
		j := &judge{}
		j.see(ref)
		return j.disagree(ref, got)
	}
	nan := math.NaN()
	for _, c := range []struct {
		ref, got []float64
		want     string
	}{
		{[]float64{0, 1, 0.5}, []float64{0, 1.0009, 0.5}, ""},
		{[]float64{0, 1, 0.5}, []float64{0, 1.01, 0.5}, "element 1"},
		{[]float64{0, 1, 0.5}, []float64{0, nan, 0.5}, "element 1"},
		{[]float64{0, nan, 0.5}, []float64{0, 1, 0.5}, "element 1"},
		{[]float64{0, nan, 0.5}, []float64{0, nan, 0.5}, ""}, // no fault of the device
		{[]float64{0, 1, 0.9995}, []float64{0, 0.9999, 1}, ""},
		{[]float64{0, 1}, []float64{0, 1, 2}, "output 0"},
		{[]float64{1e30}, []float64{1.1e30}, "element 0"},
	} {
		got := differ([]Tensor{floats32(nil, c.ref...)}, []Tensor{floats32(nil, c.got...)})
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%v and %v: %q, want %q", c.ref, c.got, got, c.want)
		}
	}
	q := func(b ...byte) []Tensor { return []Tensor{{Type: Uint8, Shape: []int{3}, Scale: 0.1, Data: b}} }
	if got := differ(q(10, 30, 29), q(10, 29, 30)); got != "" {
		t.Errorf("a tie: %q", got)
	}
	if got := differ(q(10, 30, 27), q(10, 28, 29)); !strings.Contains(got, "the best") {
		t.Errorf("another best: %q", got)
	}
	if got := differ(q(10, 30, 27), q(16, 30, 27)); got != "" {
		t.Errorf("six steps: %q", got)
	}
	if got := differ(q(10, 30, 27), q(17, 30, 27)); !strings.Contains(got, "element 0") {
		t.Errorf("seven steps: %q", got)
	}
	if got := differ(q(1), nil); got == "" {
		t.Error("no outputs agree with one")
	}
}

// TestDisagreeOfOneNumber: the range of a single number is that of the answers
// seen so far, not nothing.
func TestDisagreeOfOneNumber(t *testing.T) {
	one := func(v float64) []Tensor { return []Tensor{floats32(nil, v)} }
	j := &judge{}
	j.see(one(-1))
	j.see(one(1))
	if got := j.disagree(one(0.0001), one(0.0019)); got != "" {
		t.Errorf("within a thousandth of the range: %q", got)
	}
	if got := j.disagree(one(0.0001), one(0.0029)); got == "" {
		t.Error("beyond it: agrees")
	}
}

// TestDisagreeOfPose: floats that were made of quantized numbers may be off by
// steps of those, and in a table of points none is the best.
func TestDisagreeOfPose(t *testing.T) {
	path := testkit.Shared(t, "models/movenet_single_pose_lightning_ptq.tflite")
	m, _, _ := modelInfos(t, path)
	j := newJudge(m)
	if len(j.steps) != 1 || math.Abs(j.steps[0]-0.0041) > 1e-4 {
		t.Fatalf("steps %v", j.steps)
	}
	ref, err := invoke(t, path, builtin, rgb(readPicture(t, testkit.Shared(t, "data/squat.bmp")), 192, 192, false))
	if err != nil {
		t.Fatal(err)
	}
	j.see(ref)
	for _, c := range []struct {
		steps float64
		agree bool
	}{{5, true}, {-5, true}, {7, false}} {
		got := clones(ref)
		for i := range got[0].Len() {
			sign := float64(1 - 2*(i%2))
			putFloat(got[0].Data[4*i:], float32(got[0].Float(i)+sign*c.steps*j.steps[0]))
		}
		if why := j.disagree(ref, got); (why == "") != c.agree {
			t.Errorf("%v steps off: %q", c.steps, why)
		}
	}
}

// TestDisagreeOfProbabilities: a softmax gives steps of 1/256 whatever is
// before it. In the official int8 ResNet8 one step of that is a sixth, which
// moves a probability of a half by eleven; kernels that round differently are
// one or two steps apart there, and agree.
func TestDisagreeOfProbabilities(t *testing.T) {
	path := testkit.Shared(t, "models/pretrainedResnet_quant.tflite")
	m, _, _ := modelInfos(t, path)
	j := newJudge(m)
	if len(j.odds) != 1 || math.Abs(j.odds[0]-0.1719) > 1e-4 {
		t.Fatalf("steps before the softmax: %v", j.odds)
	}
	out := func(p ...float64) []Tensor {
		x := Tensor{Type: Int8, Shape: []int{1, len(p)}, Scale: 1.0 / 256, ZeroPoint: -128, Data: make([]byte, len(p))}
		if err := x.SetFloats(p); err != nil {
			t.Fatal(err)
		}
		return []Tensor{x}
	}
	for _, c := range []struct {
		ref, got []Tensor
		agree    bool
	}{
		{out(0.5, 0.48, 0.02), out(0.6, 0.38, 0.02), true},
		{out(0.5, 0.48, 0.02), out(0.75, 0.23, 0.02), false}, // 6.4 steps
		{out(0.6, 0.38, 0.02), out(0.48, 0.5, 0.02), false},  // another best
		{out(0.98, 0.01, 0.01), out(0.95, 0.03, 0.02), true}, // 5.7 steps before the softmax
		{out(0.98, 0.01, 0.01), out(0.93, 0.06, 0.01), false},
		{out(0.9, 0.1, 0), out(0.9, 0.1, 0.03), false}, // 8 steps of 1/256 from nothing
		{out(1, 0, 0), out(0.97, 0.02, 0.01), false},
	} {
		if why := j.disagree(c.ref, c.got); (why == "") != c.agree {
			t.Errorf("%v and %v: %q", c.ref[0].Floats(nil), c.got[0].Floats(nil), why)
		}
	}

	// The runtime's own kernels in a trial, and a network whose last layer lost
	// its weights.
	request, err := json.Marshal(TrialRequest{File: path, Candidates: []string{"builtin", "xnnpack:3"}})
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	if err := RunTrial(t.Context(), bytes.NewReader(request), &said); err != nil {
		t.Fatal(err)
	}
	right := 0
	for dec := json.NewDecoder(&said); dec.More(); {
		var r CandidateReport
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if r.OK {
			right++
		} else if !r.Begun {
			t.Errorf("%s: %s", r.Name, r.Why)
		}
	}
	if right != 2 {
		t.Errorf("%d candidates are right", right)
	}
	broken := m.Clone()
	for _, op := range broken.Main().Ops {
		if op.Code == "FULLY_CONNECTED" {
			w := &broken.Main().Tensors[op.Inputs[1]]
			w.Buffer = make([]byte, len(w.Buffer))
		}
	}
	file, err := broken.Write()
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.tflite")
	if err := os.WriteFile(bad, file, 0o600); err != nil {
		t.Fatal(err)
	}
	picture := rgb(readPicture(t, testkit.Shared(t, "data/cat.bmp")), 32, 32, false)
	for i := range picture {
		picture[i] ^= 0x80
	}
	ref, err := invoke(t, path, builtin, picture)
	if err != nil {
		t.Fatal(err)
	}
	got, err := invoke(t, bad, builtin, picture)
	if err != nil {
		t.Fatal(err)
	}
	if why := j.disagree(ref, got); why == "" {
		t.Errorf("no weights at the end: %v instead of %v", got[0].Floats(nil), ref[0].Floats(nil))
	}
}

func clones(list []Tensor) []Tensor {
	out := slices.Clone(list)
	for i := range out {
		out[i].Data = bytes.Clone(out[i].Data)
	}
	return out
}

// TestDisagreeOfDetection: of a real picture the objects count that one is sure
// of; weak ones may change places.
func TestDisagreeOfDetection(t *testing.T) {
	path := testkit.Shared(t, "models/detect.tflite")
	m, _, _ := modelInfos(t, path)
	ref, err := invoke(t, path, builtin, rgb(readPicture(t, testkit.Shared(t, "data/pets.jpg")), 300, 300, false))
	if err != nil {
		t.Fatal(err)
	}
	set := func(x *Tensor, i int, v float64) {
		binary.LittleEndian.PutUint32(x.Data[4*i:], math.Float32bits(float32(v)))
	}
	const boxes, classes, scores, count = 0, 1, 2, 3
	for name, c := range map[string]struct {
		change func(out []Tensor)
		agree  bool
	}{
		"the same": {func([]Tensor) {}, true},
		"a few steps": {func(out []Tensor) {
			for i := range 10 {
				set(&out[scores], i, out[scores].Float(i)*0.95)
				set(&out[boxes], 4*i, out[boxes].Float(4*i)+0.02)
			}
		}, true},
		"weak ones change places": {func(out []Tensor) {
			for k := range 4 {
				a, b := out[boxes].Float(4*8+k), out[boxes].Float(4*9+k)
				set(&out[boxes], 4*8+k, b)
				set(&out[boxes], 4*9+k, a)
			}
			a, b := out[classes].Float(8), out[classes].Float(9)
			set(&out[classes], 8, b)
			set(&out[classes], 9, a)
		}, true},
		"the dogs change places": {func(out []Tensor) {
			for k := range 4 {
				a, b := out[boxes].Float(k), out[boxes].Float(4+k)
				set(&out[boxes], k, b)
				set(&out[boxes], 4+k, a)
			}
		}, true},
		"no dog but a cat":      {func(out []Tensor) { set(&out[classes], 0, 16) }, false},
		"a dog elsewhere":       {func(out []Tensor) { set(&out[boxes], 1, 0.9*out[boxes].Float(3)) }, false},
		"nothing":               {func(out []Tensor) { set(&out[count], 0, 0) }, false},
		"zeros":                 {func(out []Tensor) { clear(out[scores].Data) }, false},
		"NaN":                   {func(out []Tensor) { set(&out[scores], 1, math.NaN()) }, false},
		"sure of what is there": {func(out []Tensor) { set(&out[scores], 9, 0.99) }, false},
	} {
		j := newJudge(m)
		got := clones(ref)
		c.change(got)
		j.see(ref)
		if why := j.disagree(ref, got); (why == "") != c.agree {
			t.Errorf("%s: %q", name, why)
		}
	}
}

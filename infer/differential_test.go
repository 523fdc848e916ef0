package infer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/internal/testkit"
)

// How far two builds of the same kernels may differ.
const (
	floatTolerance = 1e-5 // of the output's range over all calls
	farSteps       = 6    // of a quantized output, for any element
	nearShare      = 0.99 // of its elements within 1 step
	placeTolerance = 0.02 // of boxes and key points, in fractions of the picture
)

// TestDifferential holds this runtime against another build of the same
// interpreter, model by model, on the same inputs. The other one computes by
// XNNPACK where it can, so that this one does too; the uint8 classifiers,
// detect and movenet this XNNPACK refuses, and there the built-in kernels, which
// round in another way, stand against it. For these the inputs are photographs:
// patterns and noise mean nothing to them.
func TestDifferential(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(testkit.Shared(t, "models"), "*.tflite"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no models: %v", err)
	}
	files = append(files, testkit.Cached(t, "demo/face_detection_short_range.tflite"))
	refused := map[string]bool{ // by both: custom operators, and a faulty file
		"audio_preprocessor_float": true, "audio_preprocessor_int8": true,
		"mobilenet_v1_0.25_128_quant_edgetpu": true, "person_detect": true,
	}
	var jobs []job
	for _, path := range files {
		jobs = append(jobs, job{path, callsFor(t, path)})
	}
	compared := 0
	for i, theirs := range webAssembly(t, jobs) {
		name := strings.TrimSuffix(filepath.Base(files[i]), ".tflite")
		t.Run(name, func(t *testing.T) {
			flags, ours, err := invokeAll(t, jobs[i])
			if refused[name] != (err != nil) || refused[name] != (theirs.Error != "") {
				t.Fatalf("refused %v, this one says %v, the other %q", refused[name], err, theirs.Error)
			}
			if refused[name] {
				return
			}
			compared++
			for call := range ours {
				if len(ours[call]) != len(theirs.Outputs[call]) {
					t.Fatalf("%d outputs, the other has %d", len(ours[call]), len(theirs.Outputs[call]))
				}
			}
			switch name {
			case "detect":
				compareObjects(t, ours, theirs)
			case "movenet_single_pose_lightning_ptq":
				comparePoints(t, ours, theirs)
			default:
				for output := range ours[0] {
					compareOutput(t, flags, ours, theirs, output)
				}
			}
		})
	}
	if compared < 20 {
		t.Errorf("only %d models were compared", compared)
	}
}

// job and reference are what reference.cjs takes and gives.
type job struct {
	Model string     `json:"model"`
	Calls [][][]byte `json:"calls"` // by call and input
}

type reference struct {
	Error   string `json:"error"`
	Outputs [][]struct {
		Type  string `json:"type"`
		Shape []int  `json:"shape"`
		Data  []byte `json:"data"`
	} `json:"outputs"` // by call and output
}

// tensor is the other's output as a Tensor, in the type of ours.
func (r *reference) tensor(t testing.TB, ours *Tensor, call, output int) *Tensor {
	t.Helper()
	o := r.Outputs[call][output]
	if len(o.Data) != len(ours.Data) {
		t.Fatalf("output %d: %d bytes of %v, the other has %d of %s %v", output, len(ours.Data), ours.Type, len(o.Data), o.Type, o.Shape)
	}
	their := *ours
	their.Data = o.Data
	return &their
}

// webAssembly runs the jobs in the WebAssembly TensorFlow Lite.
func webAssembly(t testing.TB, jobs []job) []reference {
	t.Helper()
	node := testkit.Program(t, "node")
	pkg := filepath.Dir(testkit.Cached(t, "tfjs-tflite/package.json"))
	in, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(node, filepath.Join("testdata", "reference.cjs"), pkg)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("node: %v: %s", err, errs.String())
	}
	var answers []reference
	if err := json.Unmarshal(out.Bytes(), &answers); err != nil {
		t.Fatalf("node answers %.100q: %v", out.String(), err)
	}
	return answers
}

// invokeAll runs a job on XNNPACK with its int8 kernels, or where that refuses
// the model on the built-in kernels.
func invokeAll(t testing.TB, j job) (flags int, out [][]Tensor, err error) {
	t.Helper()
	for _, flags = range []int{3, builtin} {
		out = nil
		for _, call := range j.Calls {
			var tensors []Tensor
			if tensors, err = invoke(t, j.Model, flags, call...); err != nil {
				break
			}
			out = append(out, tensors)
		}
		if err == nil {
			break
		}
	}
	return flags, out, err
}

// compareOutput compares one output over all calls.
func compareOutput(t *testing.T, flags int, ours [][]Tensor, theirs reference, output int) {
	low, high, far, near, total := math.Inf(1), math.Inf(-1), 0.0, 0, 0
	step := float64(ours[0][output].Scale)
	for call := range ours {
		a := &ours[call][output]
		b := theirs.tensor(t, a, call, output)
		top, otherTop := 0, 0
		for i := range a.Len() {
			x, y := a.Float(i), b.Float(i)
			low, high = min(low, y), max(high, y)
			off := math.Abs(x - y)
			if !(off <= far) { // NaN too
				far = off
			}
			if off < 1.5*step {
				near++
			}
			total++
			if x > a.Float(top) {
				top = i
			}
			if y > b.Float(otherTop) {
				otherTop = i
			}
		}
		if top != otherTop && a.Float(top)-a.Float(otherTop) > floatTolerance {
			t.Errorf("call %d, output %d: the best is %d, the other's is %d", call, output, top, otherTop)
		}
	}
	if step == 0 {
		t.Logf("float32, %d calls on %s: farthest %.1e of the range", len(ours), delegateName(flags), far/(high-low))
		if !(far <= floatTolerance*(high-low)) {
			t.Errorf("output %d: off by %g of the range %g to %g", output, far, low, high)
		}
		return
	}
	t.Logf("quantized, %d calls on %s: farthest %.0f steps, %.2f %% within 1", len(ours), delegateName(flags), far/step, 100*float64(near)/float64(total))
	if far/step > farSteps+0.5 || float64(near) < nearShare*float64(total) {
		t.Errorf("output %d: farthest %.1f steps, %d of %d elements within 1", output, far/step, near, total)
	}
}

// compareObjects compares what is found in photographs: labels and boxes.
func compareObjects(t *testing.T, ours [][]Tensor, theirs reference) {
	for call, a := range ours {
		var b []Tensor
		for output := range a {
			b = append(b, *theirs.tensor(t, &a[output], call, output))
		}
		x, err := decodeOne(t, ModelConfig{Output: "detection"}, nil, nil, a)
		if err != nil {
			t.Fatal(err)
		}
		y, err := decodeOne(t, ModelConfig{Output: "detection"}, nil, nil, b)
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Objects) != len(y.Objects) || len(x.Objects) == 0 {
			t.Errorf("call %d: %d objects, the other has %d", call, len(x.Objects), len(y.Objects))
			continue
		}
		far, score := 0.0, 0.0
		for i, o := range x.Objects {
			if o.Label != y.Objects[i].Label {
				t.Errorf("call %d: object %d is %s, the other's is %s", call, i, o.Label, y.Objects[i].Label)
			}
			for k := range o.Box {
				far = max(far, math.Abs(o.Box[k]-y.Objects[i].Box[k]))
			}
			score = max(score, math.Abs(o.Score-y.Objects[i].Score))
		}
		t.Logf("photograph %d: %d objects, boxes within %.4f, scores within %.3f", call, len(x.Objects), far, score)
		if far > placeTolerance {
			t.Errorf("call %d: a box is off by %.4f", call, far)
		}
	}
}

// comparePoints compares the places of the 17 key points (y, x, score each).
func comparePoints(t *testing.T, ours [][]Tensor, theirs reference) {
	for call, a := range ours {
		b := theirs.tensor(t, &a[0], call, 0)
		far := 0.0
		for i := range a[0].Len() {
			if i%3 < 2 {
				far = max(far, math.Abs(a[0].Float(i)-b.Float(i)))
			}
		}
		t.Logf("photograph %d: key points within %.4f", call, far)
		if !(far <= placeTolerance) {
			t.Errorf("call %d: a key point is off by %.4f", call, far)
		}
	}
}

func delegateName(flags int) string {
	if flags == builtin {
		return "built-in kernels"
	}
	return fmt.Sprintf("XNNPACK flags %d", flags)
}

// callsFor are the inputs of the calls of one model.
func callsFor(t testing.TB, path string) (calls [][][]byte) {
	t.Helper()
	photographs := func(side int, names ...string) {
		for _, n := range names {
			calls = append(calls, [][]byte{rgb(readPicture(t, testkit.Shared(t, "data/"+n)), side, side, false)})
		}
	}
	switch strings.TrimSuffix(filepath.Base(path), ".tflite") {
	case "detect":
		photographs(300, "pets.jpg", "cat.bmp", "grace_hopper.bmp")
	case "movenet_single_pose_lightning_ptq":
		photographs(192, "squat.bmp")
	case "mobilenet_v1_0.25_128_quant":
		photographs(128, "cat.bmp", "grace_hopper.bmp", "pets.jpg", "squat.bmp")
	case "mobilenet_v2_1.0_224_quant":
		photographs(224, "cat.bmp", "grace_hopper.bmp", "pets.jpg", "squat.bmp")
	default:
		m, _, _ := modelInfos(t, path)
		for call := range 3 {
			var in [][]byte
			for _, i := range m.Main().Inputs {
				in = append(in, pattern(&m.Main().Tensors[i], call))
			}
			calls = append(calls, in)
		}
	}
	return calls
}

// pattern is a smooth, bounded input without symmetry: waves of several
// lengths along the tensor, another mixture for each call. Whole numbers that
// are not quantized are word ids, inside the vocabularies of 10,000 words.
func pattern(x *model.Tensor, call int) []byte {
	var data []byte
	for i := range x.Elements() {
		p := float64(i)
		v := 0.5*math.Sin(p*0.013*float64(call+1)+float64(call)) + 0.3*math.Sin(p*0.171+float64(call)) + 0.2*math.Cos(p*0.0029)
		switch x.Type {
		case model.Float32:
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(v)))
		case model.Int8:
			data = append(data, byte(int8(v*127)))
		case model.Uint8:
			data = append(data, byte(128+v*127))
		case model.Int16:
			data = binary.LittleEndian.AppendUint16(data, uint16(int16(v*20000)))
		case model.Int32:
			data = binary.LittleEndian.AppendUint32(data, uint32((i*37+call*101)%9000))
		}
	}
	return data
}

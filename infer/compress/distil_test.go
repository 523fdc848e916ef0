package compress

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// A trained network as a teacher, through its file: it gives the logits that
// the network has before its softmax, and what its layers hold; the int8 file
// of it nearly so.
func TestTeacherIsTheNetwork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		net, d, m := randomExport(t)
		if m == nil {
			return
		}
		n, width := d.Len(), net.Out.Size()
		file, err := m.Write()
		if err != nil {
			t.Fatal(err)
		}
		cfg := TeacherConfig{Files: [][]byte{file}, Pictures: d.Pixels != nil, Values: d.Labels == nil}
		if rapid.Bool().Draw(t, "twice") {
			cfg.Files = append(cfg.Files, file)
		}
		teacher, err := OpenTeacher(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer teacher.Close()
		size := len(d.Values)/n + len(d.Pixels)/n
		x := make([]float32, n*size)
		for i := range n {
			d.Input(x[i*size:(i+1)*size], i)
		}
		got := make([]float32, n*width)
		if err := teacher.Answer(x, n, got, nil); err != nil {
			t.Fatal(err)
		}
		want := net.Predict(x, n)
		for i := range n {
			row, is := want[i*width:(i+1)*width], slices.Clone(got[i*width:(i+1)*width])
			if d.Labels != nil {
				sum := 0.0
				for _, v := range is {
					sum += math.Exp(float64(v - slices.Max(is)))
				}
				top := slices.Max(is)
				for j, v := range is {
					is[j] = float32(math.Exp(float64(v-top)) / sum)
				}
			}
			low, high := slices.Min(want), slices.Max(want)
			for j := range row {
				if math.Abs(float64(row[j]-is[j])) > 1e-4*max(float64(high-low), float64(high), 1e-3) {
					t.Fatalf("sample %d: %v, want %v", i, is, row)
				}
			}
		}
	})
}

// Visual wake words of MLPerf Tiny, float and int8: both give logits, whose
// softmax is what the files answer, and the int8 model nearly the float one's. Its
// answers alone are in steps of 1/256.
func TestTeachersShared(t *testing.T) {
	logits := map[string][]float32{}
	for _, name := range []string{"vww_96_float.tflite", "vww_96_int8.tflite"} {
		m, file := sharedModel(t, name)
		if !TellsClasses(m) {
			t.Errorf("%s: no classes", name)
		}
		inner := ""
		for _, op := range m.Main().Ops {
			if op.Code == "AVERAGE_POOL_2D" {
				inner = m.Main().Tensors[op.Outputs[0]].Name
			}
		}
		teacher, err := OpenTeacher(TeacherConfig{Files: [][]byte{file}, Pictures: true, Low: 0, High: 1, Inner: []string{inner}})
		if err != nil {
			t.Fatal(err)
		}
		defer teacher.Close()
		if teacher.Width != 2 || len(teacher.Inner) != 1 || elements(teacher.Inner[0]) != 256 {
			t.Fatalf("%s: %d classes, inner tensors %v", name, teacher.Width, teacher.Inner)
		}
		const n = 6
		x := make([]float32, n*96*96*3)
		for i := range n {
			for j := range 96 * 96 * 3 {
				x[i*96*96*3+j] = float32(math.Sin(float64(j/3%96)*0.1*float64(i+1)) * math.Cos(float64(j/288)*0.07*float64(i)))
			}
		}
		out, features := make([]float32, 2*n), make([]float32, 256*n)
		if err := teacher.Answer(x, n, out, [][]float32{features}); err != nil {
			t.Fatal(err)
		}
		logits[name] = out
		if slices.Max(features) <= 0 || slices.Min(features) < 0 {
			t.Errorf("%s: pooled features from %v to %v", name, slices.Min(features), slices.Max(features))
		}
		one, two := make([]float32, n), make([]float32, 2*n)
		if err := teacher.Answer(x, n, one, nil); err != nil || one[3] != out[7]-out[6] {
			t.Errorf("%s: as one logit %v of %v, %v", name, one, out, err)
		}
		if err := teacher.Answer(x, n, make([]float32, 3*n), nil); err == nil || !strings.Contains(err.Error(), "answers with 2 values, the network with 3") {
			t.Errorf("%s: %v", name, err)
		}
		if err := teacher.Answer(x[:n*96], n, two, nil); err == nil || !strings.Contains(err.Error(), "it takes 27648 values") {
			t.Errorf("%s: %v", name, err)
		}
	}
	float, int8s := logits["vww_96_float.tflite"], logits["vww_96_int8.tflite"]
	for i := range float {
		if d := math.Abs(float64(float[i] - int8s[i])); d > 0.2*float64(slices.Max(float)-slices.Min(float)) {
			t.Errorf("logits %v of the float model, %v of the int8 one", float, int8s)
			break
		}
	}
}

func TestTeacherNamed(t *testing.T) {
	m, file := sharedModel(t, "vww_96_float.tflite")
	answer := m.Main().Tensors[m.Main().Ops[len(m.Main().Ops)-1].Inputs[0]].Name
	for _, c := range []struct {
		cfg  TeacherConfig
		want string
	}{
		{TeacherConfig{}, "there is no teacher"},
		{TeacherConfig{Files: [][]byte{[]byte("a text")}}, "teacher 1: "},
		{TeacherConfig{Files: [][]byte{file}, Inner: []string{"nowhere"}}, `no operator computes a tensor "nowhere"; there are "`},
		{TeacherConfig{Files: [][]byte{file}, Inner: []string{answer}}, "is its answer, or named twice"},
		{TeacherConfig{Files: [][]byte{file, func() []byte { _, f := sharedModel(t, "pretrainedResnet.tflite"); return f }()}}, "teacher 2 answers with 10 values, the first with 2"},
	} {
		if _, err := OpenTeacher(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	// A softmax of scaled logits is taken as it is, and its logarithm.
	g := m.Main()
	last := &g.Ops[len(g.Ops)-1]
	if o, ok := last.Builtin.(*model.SoftmaxOptions); !ok || o.Beta != 1 {
		t.Fatalf("the last operator is %s", last.Code)
	}
	last.Builtin = &model.SoftmaxOptions{Beta: 0.5}
	if at, log := logitsOf(g); at != g.Outputs[0] || !log {
		t.Errorf("tensor %d, of probabilities: %v", at, log)
	}
}

// Whatever student learns from a teacher of its inputs and outputs, with labels
// and without: its loss is a number, and what is exported answers as it does.
func TestRandomNetworksDistilled(t *testing.T) {
	made, misfits := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s, d := randomNetwork(t)
		width, n := d.Width, d.Len()
		end := train.LayerSpec{Type: "dense"}
		if d.Labels != nil {
			width, end.Activation = len(d.Classes), "softmax"
		}
		master, err := train.New(train.Spec{Layers: []train.LayerSpec{{Type: "flatten"}, {Type: "dense", Units: 8, Activation: "tanh"}, end}}, d.Shape, width, 3)
		if err != nil {
			t.Fatal(err)
		}
		master.Normalise(d)
		if d.Labels == nil {
			master.OutNorm = d.LearnOutNorm()
		}
		m, err := master.Export("master", nil)
		if err != nil {
			t.Fatal(err)
		}
		file, err := m.Write()
		if err != nil {
			t.Fatal(err)
		}
		cfg := TeacherConfig{Files: [][]byte{file}, Pictures: d.Pixels != nil, Values: d.Labels == nil}
		lesson := train.Teacher{Temperature: rapid.Float64Range(0.5, 20).Draw(t, "temperature"), Alpha: rapid.SampledFrom([]float64{0.3, 1}).Draw(t, "alpha")}
		if layer := rapid.IntRange(0, len(s.Layers)).Draw(t, "hint"); layer < len(s.Layers) {
			lesson.Hints, lesson.Beta = []train.Hint{{Layer: layer, Shape: train.Shape{8}}}, 0.1
			g := m.Main()
			for _, op := range g.Ops {
				if op.Code == "TANH" {
					cfg.Inner = []string{g.Tensors[op.Outputs[0]].Name}
				}
			}
		}
		teacher, err := OpenTeacher(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer teacher.Close()
		lesson.Answer = teacher.Answer
		net, err := train.New(s, d.Shape, width, 1)
		if err != nil {
			misfits++
			return
		}
		net.Normalise(d)
		learn := *d
		if d.Labels == nil {
			net.OutNorm = d.LearnOutNorm()
		} else if lesson.Alpha == 1 {
			learn.Labels = nil
		}
		tc := train.DefaultConfig()
		tc.Epochs, tc.Batch = 2, 4
		tr := &train.Trainer{Net: net, Config: tc, Train: &learn, Teacher: &lesson}
		if err := tr.Run(t.Context()); errors.Is(err, train.ErrDiverged) {
			t.Fatal(err)
		} else if err != nil {
			misfits++ // such as a hint at a layer with nothing before it that learns
			return
		}
		student, err := net.Export("student", d.Classes)
		if err != nil {
			t.Fatal(err)
		}
		if file, err = student.Write(); err != nil {
			t.Fatal(err)
		}
		size := len(d.Values)/n + len(d.Pixels)/n
		x := make([]float32, n*size)
		for i := range n {
			d.Input(x[i*size:(i+1)*size], i)
		}
		want, got := net.Predict(x, n), make([]float32, n*width)
		run, err := OpenTeacher(TeacherConfig{Files: [][]byte{file}, Pictures: d.Pixels != nil, Values: true})
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		if err := run.Answer(x, n, got, nil); err != nil {
			t.Fatal(err)
		}
		spread := float64(max(slices.Max(want)-slices.Min(want), slices.Max(want), -slices.Min(want), 1e-3))
		for i := range want {
			if math.Abs(float64(want[i]-got[i])) > 1e-3*spread {
				t.Fatalf("value %d: %v in the runtime, %v as it was trained", i, got[i], want[i])
			}
		}
		made++
	})
	t.Logf("%d distilled and run, %d misfits", made, misfits)
	if made < misfits {
		t.Error("most students that were drawn could not be taught")
	}
}

package compress

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/train"
	"edgegateway/internal/testkit"
)

// learned trains a network a little and gives its model.
func learned(t *testing.T, d *train.Dataset, epochs int, layers ...train.LayerSpec) *model.Model {
	t.Helper()
	n, err := train.New(train.Spec{Layers: layers}, d.Shape, len(d.Classes), 1)
	if err != nil {
		t.Fatal(err)
	}
	n.Normalise(d)
	cfg := train.DefaultConfig()
	cfg.Epochs = epochs
	if err := (&train.Trainer{Config: cfg, Net: n, Train: d}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := n.Export("learned", d.Classes)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func written(t *testing.T, m *model.Model) []byte {
	t.Helper()
	file, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func judged(t *testing.T, m *model.Model, task Task, s *Samples) *Quality {
	t.Helper()
	q, err := Judge(t.Context(), written(t, m), "", "", task, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func pruned(t *testing.T, m *model.Model, sparsity float64) *model.Model {
	t.Helper()
	c := DefaultPrune()
	c.Sparsity = sparsity
	small, _, err := Prune(m, c)
	if err != nil {
		t.Fatal(err)
	}
	return small
}

// weightsIn are the weights of a model's layers by name.
func weightsIn(t *testing.T, m *model.Model) map[string]*train.Param {
	t.Helper()
	n, err := train.From(m)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*train.Param{}
	for _, p := range n.Params() {
		if p.Decay {
			all[p.Name] = p
		}
	}
	return all
}

// held says what of one model's zeros and shared values another has lost.
func held(t *testing.T, was, is *model.Model, shared int) {
	t.Helper()
	after := weightsIn(t, is)
	zeros := 0
	for name, p := range weightsIn(t, was) {
		q := after[name]
		moved := false
		for i, w := range p.W {
			if w == 0 {
				zeros++
			}
			if (w == 0) != (q.W[i] == 0) {
				t.Fatalf("%s[%d] was %v, is %v", name, i, w, q.W[i])
			}
			moved = moved || w != q.W[i]
		}
		if !moved {
			t.Errorf("%s did not move", name)
		}
		group := Shared(p.W, p.Shape, shared)
		if shared > 0 && group == nil {
			t.Fatalf("%s shares nothing", name)
		}
		one := map[int32]float32{}
		for i, g := range group {
			if v, ok := one[g]; ok && g >= 0 && v != q.W[i] {
				t.Fatalf("%s[%d]: %v and %v of what was one weight", name, i, v, q.W[i])
			}
			one[g] = q.W[i]
		}
	}
	if zeros == 0 {
		t.Error("there was no zero to keep")
	}
}

var mlp = []train.LayerSpec{{Type: "flatten"}, {Type: "dense", Units: 48, Activation: "relu"}, {Type: "dense", Activation: "softmax"}}

// Pruned digits are right again after fine-tuning, with labels or with nothing
// but the answers of the model before; zeros and shared weights are held.
func TestTuneDigits(t *testing.T) {
	learn, judge := digits(t, 3000, 1000)
	j := &Samples{Set: judge}
	whole := learned(t, learn, 3, mlp...)
	small := pruned(t, whole, 0.92)
	clustered, _, err := Cluster(small, ClusterConfig{Clusters: 5, Method: "linear"})
	if err != nil {
		t.Fatal(err)
	}
	unlabelled := *learn
	unlabelled.Labels = nil
	before := judged(t, whole, Classes, j).Top1
	for _, c := range []struct {
		name   string
		m      *model.Model
		change func(*Tune)
		shared int
	}{
		{"labels", small, func(t *Tune) {}, 0},
		{"answers", small, func(x *Tune) { x.Learn, x.Teacher = &unlabelled, written(t, whole) }, 0},
		{"shared weights", clustered, func(x *Tune) { x.Shared = 5 }, 5},
	} {
		tune := DefaultTune()
		tune.Config.Epochs, tune.Config.Batch, tune.Config.Optimizer.Rate, tune.Learn, tune.Val = 3, 32, 0.002, learn, nil
		epochs, seen := 0, map[string]bool{}
		tune.Epoch = func(train.Epoch) { epochs++ }
		tune.Progress = func(what string, done, of int) { seen[what] = seen[what] || done == of }
		c.change(&tune)
		better, err := tune.Run(t.Context(), c.m)
		if err != nil {
			t.Fatal(err)
		}
		held(t, c.m, better, c.shared)
		was, is := judged(t, c.m, Classes, j).Top1, judged(t, better, Classes, j).Top1
		t.Logf("%s: %.1f %% right before pruning, %.1f %% after, %.1f %% fine-tuned", c.name, 100*before, 100*was, 100*is)
		if was > before-0.05 || is < was+0.05 {
			t.Errorf("%s: %v of %v right, then %v", c.name, was, before, is)
		}
		if epochs != 3 || !seen["epoch 3 of 3"] || seen["answers of the original"] != (c.name == "answers") {
			t.Errorf("%s: %d epochs, seen %v", c.name, epochs, seen)
		}
		labels, err := better.Labels()
		if err != nil || !slices.Equal(labels, learn.Classes) {
			t.Errorf("%s: labels %v, %v", c.name, labels, err)
		}
	}
}

// Rooms occupied or not, by a softmax of two: pruned by half, and fine-tuned on
// the published training file.
func TestTuneOccupancy(t *testing.T) {
	load := func(file string) *train.Dataset {
		d, _, err := train.LoadCSV(testkit.Shared(t, "data/"+file), train.CSVConfig{Target: []string{"Occupancy"}, Drop: []string{"Light"}})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	all := load("occupancy_train.csv")
	learn, val, err := all.Split(0.2, false, 1)
	if err != nil {
		t.Fatal(err)
	}
	j := &Samples{Set: val}
	whole := learned(t, learn, 3, train.LayerSpec{Type: "dense", Units: 24, Activation: "relu"}, train.LayerSpec{Type: "dense", Units: 16, Activation: "relu"}, train.LayerSpec{Type: "dense", Activation: "softmax"})
	half := pruned(t, whole, 0.8)
	tune := DefaultTune()
	tune.Config.Epochs, tune.Config.Optimizer.Rate, tune.Learn, tune.Val = 4, 0.003, learn, val
	better, err := tune.Run(t.Context(), half)
	if err != nil {
		t.Fatal(err)
	}
	held(t, half, better, 0)
	before, was, is := judged(t, whole, Classes, j).Top1, judged(t, half, Classes, j).Top1, judged(t, better, Classes, j).Top1
	t.Logf("%.1f %% right before pruning, %.1f %% after, %.1f %% fine-tuned", 100*before, 100*was, 100*is)
	if is < was || is < before-0.03 {
		t.Errorf("%v of %v right, then %v", was, before, is)
	}
	// Other data, on which it gets no better: what it came with is the best.
	wrong := *learn
	wrong.Labels = make([]int32, len(learn.Labels))
	for i, l := range learn.Labels {
		wrong.Labels[i] = 1 - l
	}
	tune.Learn = &wrong
	same, err := tune.Run(t.Context(), better)
	if err != nil {
		t.Fatal(err)
	}
	if d := model.Diff(better, same); !d.Same() {
		t.Errorf("what got worse is not what it was: %+v", d)
	}
}

// A public network of residual blocks, which takes bytes as they are: pruned,
// and fine-tuned on a few pictures by what it said before, it says it again of
// those pictures.
func TestTuneResNet(t *testing.T) {
	rows, _ := pictures(t, "cifar10", 32, 32, 1)
	at := rand.New(rand.NewPCG(1, 2)).Perm(len(rows))
	d := &train.Dataset{Name: "cifar10", Shape: train.Shape{32, 32, 3}}
	for _, i := range at[:40] {
		for _, v := range rows[i] {
			d.Pixels = append(d.Pixels, byte(v))
		}
	}
	whole, file := sharedModel(t, "pretrainedResnet.tflite")
	small := pruned(t, whole, 0.7)
	tune := DefaultTune()
	tune.Config.Epochs, tune.Config.Batch, tune.Learn, tune.Teacher, tune.Low, tune.High = 3, 4, d, file, 0, 255
	better, err := tune.Run(t.Context(), small)
	if err != nil {
		t.Fatal(err)
	}
	held(t, small, better, 0)
	differs := func(m *model.Model) float64 {
		a, err := Compare(t.Context(), file, written(t, m), [2]string{}, "", &Samples{Set: d, Low: 0, High: 255})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("agrees on %.0f %%, differs by %.4f", 100*a.Top1, a.MeanAbs)
		return a.MeanAbs
	}
	if was, is := differs(small), differs(better); is > was*0.8 {
		t.Errorf("differed by %v, then by %v", was, is)
	}
}

// Integer models, widened, are taken as well: what would be trained answers as
// the runtime does, and no weights are held together that were merely rounded.
func TestWidenedIsTrained(t *testing.T) {
	for _, name := range []string{"ad01_int8", "hello_world_int8", "kws_ref_model", "kws_ref_model_float32", "micro_speech_quantized",
		"mobilenet_v1_0.25_128_quant", "mobilenet_v2_1.0_224_quant", "person_detect", "pretrainedResnet_quant", "str_ww_ref_model", "vww_96_int8"} {
		m, _ := sharedModel(t, name+".tflite")
		wide, changed, err := Widen(m)
		if err != nil || !changed {
			t.Fatalf("%s: widened %v, %v", name, changed, err)
		}
		n, err := train.From(wide)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, p := range n.Params() {
			if p.Decay && Shared(p.W, p.Shape, 0) != nil {
				t.Errorf("%s: %s of %v seems to share weights", name, p.Name, p.Shape)
			}
		}
		r := rand.New(rand.NewPCG(1, 2))
		d := &train.Dataset{Name: "noise", Shape: n.In}
		for range 2 * n.In.Size() {
			d.Values = append(d.Values, 2*r.Float32()-1)
		}
		if err := (Tune{Learn: d}).agrees(wide, n); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is learned from is what Judge feeds: the same numbers, to the last bit.
func TestTuneSeesWhatIsJudged(t *testing.T) {
	d := &train.Dataset{Name: "bytes", Shape: train.Shape{16, 16, 1}}
	for i := range 256 {
		d.Pixels = append(d.Pixels, byte(i))
	}
	n, err := train.New(train.Spec{Layers: []train.LayerSpec{{Type: "flatten"}, {Type: "dense", Units: 1}}}, d.Shape, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	m, err := n.Export("any", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := infer.OpenSession(written(t, m), "builtin", "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range [][2]float64{{0, 0}, {-1, 1}, {0, 1}, {0, 255}, {-0.5, 2.7}} {
		if err := (&Samples{Set: d, Low: c[0], High: c[1]}).Fill(s.In, 0); err != nil {
			t.Fatal(err)
		}
		set := *d
		set.Low, set.High = c[0], c[1]
		x := make([]float32, 256)
		set.Input(x, 0)
		for i, v := range s.In[0].Floats(nil) {
			// Without limits it is in float32 on one side alone.
			if diff := math.Abs(v - float64(x[i])); diff > 1e-7 || diff != 0 && c[1] != 0 {
				t.Fatalf("bytes from %v: byte %d is %v to the model, %v to its training", c, i, v, x[i])
			}
		}
	}
}

// Ctrl-C leaves the best so far beside the error.
func TestTuneStopped(t *testing.T) {
	learn, _ := digits(t, 500, 100)
	m := learned(t, learn, 1, mlp...)
	for _, c := range []struct {
		at    string
		moved bool
	}{{"answers of the original", false}, {"epoch 1 of 5", false}, {"epoch 2 of 5", true}} {
		ctx, stop := context.WithCancel(t.Context())
		tune := DefaultTune()
		tune.Learn, tune.Val, tune.Config.Optimizer.Rate = learn, learn, 0.001
		if c.at == "answers of the original" {
			tune.Teacher = written(t, m)
		}
		tune.Progress = func(what string, _, _ int) {
			if what == c.at {
				stop()
			}
		}
		best, err := tune.Run(ctx, m)
		stop()
		if !errors.Is(err, context.Canceled) || best == nil {
			t.Fatalf("%s: %v", c.at, err)
		}
		if d := model.Diff(m, best); d.Same() == c.moved {
			t.Errorf("%s: moved %v", c.at, !d.Same())
		}
	}
}

// Data and models that do not fit are refused by name.
func TestTuneRefuses(t *testing.T) {
	learn, _ := digits(t, 100, 10)
	m := learned(t, learn, 1, mlp...)
	quantized, _ := sharedModel(t, "vww_96_int8.tflite")
	unlabelled := *learn
	unlabelled.Labels = nil
	narrow := train.Dataset{Name: "narrow", Shape: train.Shape{2}, Values: []float32{1, 2}, Labels: []int32{0}, Classes: []string{"a"}}
	for _, c := range []struct {
		words  string
		m      *model.Model
		change func(*Tune)
	}{
		{"no data to learn from", m, func(x *Tune) { x.Learn = nil }},
		{"neither labels nor targets", m, func(x *Tune) { x.Learn = &unlabelled }},
		{"nothing to learn for the task classes", m, func(x *Tune) { x.Learn, x.Task = &unlabelled, Classes }},
		{"the model takes [28 28 1]", m, func(x *Tune) { x.Learn = &narrow }},
		{"it reconstructs nothing", m, func(x *Tune) { x.Task = Reconstruction }},
		{"is int8", quantized, func(*Tune) {}},
		{"the original", m, func(x *Tune) { x.Teacher = []byte("no model") }},
		{"no range", m, func(x *Tune) { x.Low, x.High = 1, 0 }},
		{"epochs", m, func(x *Tune) { x.Config.Epochs = 0 }},
	} {
		tune := DefaultTune()
		tune.Learn = learn
		c.change(&tune)
		if got, err := tune.Run(t.Context(), c.m); err == nil || got != nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%q: %v", c.words, err)
		}
	}
}

// An autoencoder learns its inputs again, whatever their labels say.
func TestTuneReconstruction(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	d := &train.Dataset{Name: "waves", Shape: train.Shape{6}, Classes: []string{"good", "bad"}}
	for range 400 {
		a, b := float32(r.NormFloat64()), float32(r.NormFloat64())
		d.Values = append(d.Values, a, b, a+b, a-b, 2*a, 0.5*b)
		d.Labels = append(d.Labels, 0)
	}
	unlabelled := *d
	unlabelled.Labels, unlabelled.Classes, unlabelled.Targets, unlabelled.Width = nil, nil, d.Values, 6
	n, err := train.New(train.Spec{Layers: []train.LayerSpec{{Type: "dense", Units: 12, Activation: "relu"}, {Type: "dense", Units: 6}}}, d.Shape, 6, 1)
	if err != nil {
		t.Fatal(err)
	}
	cfg := train.DefaultConfig()
	cfg.Optimizer.Rate = 0.01
	if err := (&train.Trainer{Config: cfg, Net: n, Train: &unlabelled}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := n.Export("waves", nil)
	if err != nil {
		t.Fatal(err)
	}
	small := pruned(t, m, 0.5)
	tune := DefaultTune()
	tune.Learn, tune.Task, tune.Config.Optimizer.Rate = d, Reconstruction, 0.005
	better, err := tune.Run(t.Context(), small)
	if err != nil {
		t.Fatal(err)
	}
	held(t, small, better, 0)
	if was, is := judged(t, small, Reconstruction, &Samples{Set: d}).RMSE, judged(t, better, Reconstruction, &Samples{Set: d}).RMSE; is > 0.8*was {
		t.Errorf("an error of %v, then of %v", was, is)
	}
}

func TestShared(t *testing.T) {
	many := make([]float32, 1000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range many {
		many[i] = float32(r.NormFloat64())
	}
	few := make([]float32, 1000)
	for i := range few {
		few[i] = []float32{0, 0.5, -1, 2}[r.IntN(4)]
	}
	steps := make([]float32, 1000) // of int8
	for i := range steps {
		steps[i] = 0.0173 * float32(r.IntN(41)-20)
	}
	each := make([]float32, 1000) // of int8, a scale a channel
	for i := range each {
		each[i] = 0.0173 * float32(1+i/100) * float32(r.IntN(21)-10)
	}
	channels := make([]float32, 1000) // 10 rows, each of 20 values of its own
	last := make([]float32, 1000)
	for i := range channels {
		channels[i] = 0.7013*float32(1+i/100) + float32(i%20)/61
		last[i] = 0.7013*float32(1+i%10) + float32(i/10%20)/61
	}
	for _, c := range []struct {
		name   string
		w      []float32
		shape  []int
		most   int
		groups int
	}{
		{"all different", many, []int{10, 100}, 0, 0},
		{"all different, many allowed", many, []int{10, 100}, 4096, 0},
		{"three values and 0", few, []int{10, 100}, 0, 3},
		{"three values and 0, two allowed", few, []int{10, 100}, 2, 0},
		{"integers once", steps, []int{10, 100}, 0, 0},
		{"integers once, by channel", each, []int{10, 100}, 0, 0},
		{"integers once, forty allowed", steps, []int{10, 100}, 40, 40},
		{"nobody looks", few, []int{10, 100}, -1, 0},
		{"by channel", channels, []int{10, 100}, 20, 200},
		{"by channel, found", channels, []int{10, 100}, 0, 200},
		{"by last channel", last, []int{1, 10, 10, 10}, 20, 200},
		{"zeros", make([]float32, 10), []int{2, 5}, 0, 0},
		{"two that happen to be the same", []float32{1, 1, 2, 3, 4, 5}, []int{2, 3}, 0, 0},
		{"nothing", nil, nil, 0, 0},
	} {
		group := Shared(c.w, c.shape, c.most)
		seen := map[int32]float32{}
		for i, g := range group {
			if v, ok := seen[g]; ok && v != c.w[i] || (g < 0) != (c.w[i] == 0) {
				t.Fatalf("%s: weight %d is %v, of group %d", c.name, i, c.w[i], g)
			}
			seen[g] = c.w[i]
		}
		delete(seen, -1)
		if len(seen) != c.groups || (group == nil) != (c.groups == 0) {
			t.Errorf("%s: %d groups", c.name, len(seen))
		}
	}
}

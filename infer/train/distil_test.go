package train

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every loss of a teacher against numeric differences: by the outputs, by the
// weights through taps in the middle, and by the maps of the hints.
func TestDistillingGradients(t *testing.T) {
	picture := Shape{6, 6, 2}
	for _, c := range []struct {
		name    string
		in      Shape
		layers  []LayerSpec
		labels  bool
		targets int
		alpha   float64
		hints   []Hint
	}{
		{name: "classes", in: Shape{5}, layers: []LayerSpec{{Type: "dense", Units: 4, Activation: "tanh"}, {Type: "dense", Units: 3, Activation: "softmax"}}, labels: true, alpha: 0.7},
		{name: "the teacher alone", in: Shape{5}, layers: []LayerSpec{{Type: "dense", Units: 3, Activation: "softmax"}}, alpha: 1},
		{name: "yes or no", in: Shape{5}, layers: []LayerSpec{{Type: "dense", Units: 1, Activation: "sigmoid"}}, labels: true, alpha: 0.4},
		{name: "several yes or no", in: Shape{5}, layers: []LayerSpec{{Type: "dense", Units: 3, Activation: "sigmoid"}}, targets: 3, alpha: 0.4},
		{name: "values", in: Shape{5}, layers: []LayerSpec{{Type: "dense", Units: 2}}, targets: 2, alpha: 0.5},
		{name: "hint of a dense layer", in: Shape{5}, layers: []LayerSpec{{Type: "dense", Units: 4, Activation: "tanh"}, {Type: "dense", Units: 3, Activation: "softmax"}}, labels: true, alpha: 0.3, hints: []Hint{{0, Shape{7}}}},
		{name: "two hints of one layer, and one behind", in: Shape{5}, layers: []LayerSpec{{Type: "dense", Units: 4, Activation: "tanh"}, {Type: "dense", Units: 4, Activation: "sigmoid"}, {Type: "dense", Units: 3, Activation: "softmax"}}, labels: true, hints: []Hint{{0, Shape{7}}, {0, Shape{2}}, {1, Shape{3}}}},
		{name: "pixel by pixel", in: picture, layers: []LayerSpec{{Type: "conv2d", Filters: 3, BatchNorm: true, Activation: "tanh"}, {Type: "avg_pool"}, {Type: "flatten"}, {Type: "dense", Units: 2, Activation: "softmax"}}, labels: true, alpha: 0.5, hints: []Hint{{0, Shape{6, 6, 4}}, {1, Shape{3, 3, 2}}, {2, Shape{5}}}},
		{name: "pictures of another size", in: picture, layers: []LayerSpec{{Type: "conv2d", Filters: 2, Activation: "tanh"}, {Type: "flatten"}, {Type: "dense", Units: 2}}, targets: 2, alpha: 0.5, hints: []Hint{{0, Shape{2, 2, 3}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := New(Spec{c.layers}, c.in, 0, 3)
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(9, 8))
			d := &Dataset{Name: "noise", Shape: c.in, Values: random(r, 6*product(c.in))}
			for range 6 * c.targets {
				d.Width = c.targets
				d.Targets = append(d.Targets, float32(r.Float64()))
			}
			if width := product(n.Out); c.labels {
				for range max(width, 2) {
					d.Classes = append(d.Classes, "class")
				}
				for range 6 {
					d.Labels = append(d.Labels, int32(r.IntN(max(width, 2))))
				}
			}
			teacher := &Teacher{Temperature: 2.5, Alpha: c.alpha, Hints: c.hints, Answer: func(_ []float32, _ int, out []float32, inner [][]float32) error {
				for _, list := range append([][]float32{out}, inner...) {
					for i := range list {
						list[i] = float32(r.NormFloat64())
					}
				}
				return nil
			}}
			if len(c.hints) > 0 {
				teacher.Beta = 0.8
			}
			tr := &Trainer{Net: n, Config: DefaultConfig(), Train: d, Teacher: teacher}
			if err := tr.begin(); err != nil {
				t.Fatal(err)
			}
			var b batch
			at := []int{0, 1, 2, 3, 4, 5}
			tr.load(d, &b, at)
			if err := tr.pupil.ask(&b, at, false); err != nil {
				t.Fatal(err)
			}
			dz := make([]float32, b.n*product(n.Out))
			value := func() float64 {
				z := n.forward(b.x, b.n, tr.upTo, true)
				return tr.lossOf(z, dz, &b) + tr.pupil.hint(n, &b)
			}
			value()
			n.backward(dz, b.n, tr.upTo)
			if len(tr.params()) != len(n.Params())+2*len(c.hints) {
				t.Errorf("%d parameters", len(tr.params()))
			}
			for _, p := range tr.params() {
				if p.frozen {
					continue
				}
				grad := slices.Clone(p.G)
				for range 20 {
					i := r.IntN(len(p.W))
					const h = 5e-3
					old := p.W[i]
					p.W[i] = old + h
					up := value()
					p.W[i] = old - h
					down := value()
					p.W[i] = old
					if want := (up - down) / (2 * h); math.Abs(want-float64(grad[i])) > 2e-3+0.02*math.Abs(want) {
						t.Errorf("%s[%d]: gradient %v, numeric %v", p.Name, i, grad[i], want)
					}
				}
			}
		})
	}
}

// The loss is Hinton's: at T = 1 that of soft targets, and for a high T its
// gradient that of the squared error of logits about their means, over the
// number of classes.
func TestDistillingLoss(t *testing.T) {
	z, v := []float32{1, -2, 0.5, 3}, []float32{0, 2, -1, 1}
	at := func(temperature float64) (float64, []float32) {
		dz := make([]float32, 4)
		p := &pupil{Teacher: &Teacher{Temperature: temperature, Alpha: 1}}
		return p.loss("cross_entropy", z, dz, &batch{n: 1, soft: v}), dz
	}
	soft := make([]float32, 4)
	softmax(soft, v)
	want := make([]float32, 4)
	wantLoss := lossOf("soft_cross_entropy", z, want, &batch{n: 1, targets: soft})
	loss, dz := at(1)
	if math.Abs(loss-wantLoss) > 1e-6 {
		t.Errorf("loss %v, want %v", loss, wantLoss)
	}
	for j := range dz {
		if math.Abs(float64(dz[j]-want[j])) > 1e-6 {
			t.Errorf("gradient %v, want %v", dz, want)
		}
	}
	mean := func(v []float32) float64 { return float64(v[0]+v[1]+v[2]+v[3]) / 4 }
	_, dz = at(500)
	for j := range dz {
		if want := (float64(z[j]) - mean(z) - float64(v[j]) + mean(v)) / 4; math.Abs(float64(dz[j])-want) > 0.01 {
			t.Errorf("T = 500: gradient %v of output %d, want about %v", dz[j], j, want)
		}
	}
}

// spirals are two classes that a small network does not tell apart at once.
func spirals(n int, seed uint64) *Dataset {
	r := rand.New(rand.NewPCG(seed, 3))
	d := &Dataset{Name: "spirals", Shape: Shape{2}, Classes: []string{"in", "out"}}
	for i := range n {
		a, c := 4*r.Float64(), i%2
		x, y := a*math.Cos(a+math.Pi*float64(c)), a*math.Sin(a+math.Pi*float64(c))
		d.Values = append(d.Values, float32(x+0.1*r.NormFloat64()), float32(y+0.1*r.NormFloat64()))
		d.Labels = append(d.Labels, int32(c))
	}
	return d
}

// A network that sees no label learns from one that has: with unlabelled
// samples alone it is right where its teacher is. The teacher is asked once a
// sample, or in every epoch where samples are changed.
func TestDistilUnlabelled(t *testing.T) {
	d, test := spirals(600, 1), spirals(400, 2)
	spec := Spec{[]LayerSpec{{Type: "dense", Units: 24, Activation: "tanh"}, {Type: "dense", Units: 12, Activation: "tanh"}, {Type: "dense", Units: 2, Activation: "softmax"}}}
	teacher, err := New(spec, d.Shape, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Epochs, cfg.Batch, cfg.Optimizer.Rate = 60, 16, 0.01
	tr := run(t, &Trainer{Net: teacher, Config: cfg, Train: d})
	_, taught := tr.evaluate(test)
	if taught < 0.97 {
		t.Fatalf("the teacher itself is right in %v", taught)
	}
	blank := *d
	blank.Labels, blank.Classes = nil, nil
	for _, noise := range []float64{0, 0.05} {
		cfg := cfg
		cfg.Augment.Noise = noise
		asked := 0
		pupil, err := New(spec, d.Shape, 2, 7)
		if err != nil {
			t.Fatal(err)
		}
		val := spirals(50, 4)
		val.Labels, val.Classes = nil, nil
		tr := run(t, &Trainer{Net: pupil, Config: cfg, Train: &blank, Val: val, Teacher: &Teacher{Temperature: 2, Alpha: 1, Answer: func(x []float32, n int, out []float32, _ [][]float32) error {
			asked += n
			copy(out, teacher.forward(x, n, len(teacher.layers)-1, false))
			return nil
		}}})
		want := 50 + d.Len()
		if noise > 0 {
			want = 50 + cfg.Epochs*d.Len()
		}
		if asked != want {
			t.Errorf("noise %v: the teacher was asked %d times, want %d", noise, asked, want)
		}
		right := 0
		z := pupil.Predict(test.Values, test.Len())
		for i, l := range test.Labels {
			if (z[2*i+1] > z[2*i]) == (l == 1) {
				right++
			}
		}
		if a := float64(right) / float64(test.Len()); a < taught-0.03 {
			t.Errorf("noise %v: right in %v, the teacher in %v", noise, a, taught)
		}
		if l := tr.History[len(tr.History)-1]; l.ValLoss != l.ValLoss || l.Accuracy == l.Accuracy {
			t.Errorf("%+v", l)
		}
	}
}

// Hints stop and go on with the training: what is resumed is what ran through.
func TestDistilResumed(t *testing.T) {
	d := spirals(120, 1)
	dir := t.TempDir()
	spec := Spec{[]LayerSpec{{Type: "dense", Units: 6, Activation: "tanh"}, {Type: "dense", Units: 2, Activation: "softmax"}}}
	trainer := func(file string, beta float64) *Trainer {
		n, err := New(spec, d.Shape, 2, 1)
		if err != nil {
			t.Fatal(err)
		}
		cfg := DefaultConfig()
		cfg.Epochs, cfg.Checkpoint = 6, filepath.Join(dir, file)
		return &Trainer{Net: n, Config: cfg, Train: d, Teacher: &Teacher{Temperature: 1, Alpha: 0.5, Beta: beta, Hints: []Hint{{0, Shape{3}}}, Answer: func(x []float32, n int, out []float32, inner [][]float32) error {
			for i := range n {
				a, b := x[2*i], x[2*i+1]
				out[2*i], out[2*i+1] = a, b
				if len(inner) > 0 {
					inner[0][3*i], inner[0][3*i+1], inner[0][3*i+2] = a*b, a, b*b
				}
			}
			return nil
		}}}
	}
	whole := run(t, trainer("a", 0.3))
	ctx, cancel := context.WithCancel(context.Background())
	part := trainer("b", 0.3)
	part.Done = func(e Epoch) {
		if e.Epoch == 3 {
			cancel()
		}
	}
	if err := part.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := trainer("b", 0.4).Run(context.Background()); err == nil || !strings.Contains(err.Error(), "of another network, configuration or data") {
		t.Errorf("with another weight of hints: %v", err)
	}
	rest := run(t, trainer("b", 0.3))
	for i, p := range whole.params() {
		if q := rest.params()[i]; !slices.Equal(p.W, q.W) {
			t.Errorf("%s differs", p.Name)
		}
	}
}

func TestTeacherRefused(t *testing.T) {
	d := spirals(20, 1)
	blank := *d
	blank.Labels, blank.Classes = nil, nil
	answer := func(_ []float32, n int, out []float32, inner [][]float32) error {
		for _, list := range append(inner, out) {
			clear(list)
		}
		return nil
	}
	for _, c := range []struct {
		teacher Teacher
		data    *Dataset
		loss    string
		want    string
	}{
		{Teacher{Temperature: 2, Alpha: 1}, d, "auto", "does not answer"},
		{Teacher{Answer: answer, Alpha: 1}, d, "auto", "temperature: 0 is outside"},
		{Teacher{Answer: answer, Temperature: 1, Alpha: 1.5}, d, "auto", "alpha: 1.5 is outside"},
		{Teacher{Answer: answer, Temperature: 1}, d, "auto", "teaches nothing"},
		{Teacher{Answer: answer, Temperature: 1, Alpha: 1, Hints: []Hint{{0, Shape{3}}}}, d, "auto", "weight 0"},
		{Teacher{Answer: answer, Temperature: 1, Alpha: 1, Beta: math.NaN()}, d, "auto", "beta: NaN"},
		{Teacher{Answer: answer, Temperature: 1, Alpha: 1, Beta: 1, Hints: []Hint{{4, Shape{3}}}}, d, "auto", "hint 1: layer 4 is none of the network's 3"},
		{Teacher{Answer: answer, Temperature: 1, Alpha: 1, Beta: 1, Hints: []Hint{{2, Shape{3}}}}, d, "auto", "the answer itself"},
		{Teacher{Answer: answer, Temperature: 1, Alpha: 1, Beta: 1, Hints: []Hint{{0, Shape{3}}}}, d, "auto", "nothing before it that learns"},
		{Teacher{Answer: answer, Temperature: 1, Alpha: 1, Beta: 1, Hints: []Hint{{1, Shape{1 << 22}}}}, d, "auto", "more than 4194304 weights"},
		{Teacher{Answer: answer, Temperature: 1, Alpha: 0.5}, &blank, "auto", "neither labels nor targets"},
		{Teacher{Answer: answer, Temperature: 1, Alpha: 0.5}, d, "mse", "by a cross-entropy"},
		{Teacher{Answer: func(_ []float32, _ int, out []float32, _ [][]float32) error {
			out[0] = float32(math.NaN())
			return nil
		}, Temperature: 1, Alpha: 1}, d, "auto", "it answers NaN"},
		{Teacher{Answer: func([]float32, int, []float32, [][]float32) error { return errors.New("gone home") }, Temperature: 1, Alpha: 1}, d, "auto", "teacher: gone home"},
	} {
		n, err := New(Spec{[]LayerSpec{{Type: "dropout"}, {Type: "dense", Units: 4}, {Type: "activation", Activation: "softmax"}}}, d.Shape, 2, 1)
		if c.teacher.Hints == nil || c.teacher.Hints[0].Layer != 2 {
			n, err = New(Spec{[]LayerSpec{{Type: "dropout"}, {Type: "dense", Units: 4, Activation: "relu"}, {Type: "dense", Units: 2, Activation: "softmax"}}}, d.Shape, 2, 1)
		}
		if err != nil {
			t.Fatal(err)
		}
		cfg := DefaultConfig()
		cfg.Epochs, cfg.Loss = 1, c.loss
		if err := (&Trainer{Net: n, Config: cfg, Train: c.data, Teacher: &c.teacher}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

package train

import (
	"math"
	"math/rand/v2"
	"testing"

	"edgegateway/infer/model"
)

// A batch that goes through in portions gives the loss, the hits and the
// gradients of one that goes through at once, and so do answers and judgement:
// with class weights, with targets, and with a teacher beside labels.
func TestPortions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name   string
		change func(*Trainer)
	}{
		{"labels", func(*Trainer) {}},
		{"class weights", func(x *Trainer) { x.Config.ClassWeights = "balanced" }},
		{"targets", func(x *Trainer) {
			d := *x.Train
			d.Labels, d.Classes, d.Width = nil, nil, 3
			for range 21 {
				d.Targets = append(d.Targets, 0.2, 0.3, 0.5)
			}
			x.Train, x.Val = &d, &d
		}},
		{"a teacher", func(x *Trainer) {
			x.Config.ClassWeights = "balanced"
			x.Teacher = &Teacher{Alpha: 0.6, Temperature: 2, Answer: func(in []float32, n int, soft []float32, _ [][]float32) error {
				for i := range soft {
					soft[i] = in[i/3*product(x.Net.In)] * float32(i%3)
				}
				return nil
			}}
		}},
	} {
		s, x := newSketch(Shape{6, 6, 2}, 4)
		a := s.conv(x, 3, 3, 3, 1, 1, true, none)
		a = s.binary("ADD", a, s.tanh(s.conv(a, 3, 3, 3, 1, 1, true, none)), none)
		a = s.dense(s.mean(a), 3, false)
		m := s.end(s.op("SOFTMAX", 1, &model.SoftmaxOptions{Beta: 1}, "softmax", Shape{3}, a))
		d := &Dataset{Name: "noise", Shape: Shape{6, 6, 2}, Values: random(r, 21*72), Classes: []string{"a", "b", "c"}}
		for i := range 21 {
			d.Labels = append(d.Labels, int32(min(i%5, 2)))
		}
		var loss, val [2]float64
		var right [2]int
		var grads, answers [2][]float32
		for k := range 2 {
			tr := &Trainer{Net: imported(t, m), Config: DefaultConfig(), Train: d, Val: d}
			tr.Config.Batch = 21
			c.change(tr)
			if k == 1 {
				tr.Net.origin.size = maxHeld / 4 // four samples at a time
			}
			if err := tr.begin(); err != nil {
				t.Fatal(err)
			}
			b := &batch{weights: tr.weights}
			at := make([]int, 21)
			for i := range at {
				at[i] = i
			}
			tr.load(tr.Train, b, at)
			if tr.pupil != nil {
				if err := tr.pupil.ask(b, at, false); err != nil {
					t.Fatal(err)
				}
			}
			loss[k], right[k] = tr.gradients(b)
			for _, p := range tr.Net.Params() {
				grads[k] = append(grads[k], p.G...)
			}
			val[k], _ = tr.evaluate(tr.Val)
			answers[k] = append(answers[k], tr.Net.Predict(b.x, 21)...)
		}
		if math.Abs(loss[0]-loss[1]) > 1e-6 || right[0] != right[1] || math.Abs(val[0]-val[1]) > 1e-6 {
			t.Errorf("%s: losses %v, right %v, of validation %v", c.name, loss, right, val)
		}
		near(t, grads[1], grads[0], 1e-5)
		near(t, answers[1], answers[0], 1e-6)
	}
}

package compress

import (
	"context"
	"errors"
	"fmt"
	"math"

	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// Tune trains a float model further, as after pruning or sharing of weights:
// weights that are 0 stay 0, and those that share their value go on sharing
// one.
type Tune struct {
	Config train.Config
	Learn  *train.Dataset
	Val    *train.Dataset // what decides which epoch is best; nil: the last is
	// Low and High are what the bytes 0 and 255 of pictures are for the model, as
	// in Samples: both 0 for -1 and 1.
	Low, High float64
	// Task says what is learned: Classes (labels number the model's outputs, as
	// Judge has it), Regression and Forecast (targets), Reconstruction (the inputs
	// themselves). "": by what Learn has.
	Task Task
	// Teacher is a .tflite whose answers are what is learned, in place of labels
	// and targets: that of the model before anything was taken from it needs no
	// labels. nil: none.
	Teacher []byte
	// Shared is how many different values other than 0 the weights of a layer, or
	// of one of its channels, may have to be taken for shared ones. 0: 64, where
	// on average three weights have the same; negative: none are.
	Shared  int
	Library string // the TensorFlow Lite library; "": the one in the program
	// Progress is told what is being done, and how far; Epoch what came of each.
	// Both may be nil.
	Progress func(what string, done, of int)
	Epoch    func(train.Epoch)
	// Before is called before each step of so many, as that of a Trainer; nil:
	// nobody.
	Before func(net *train.Network, step, of int)
}

// DefaultTune takes five epochs with a rate that rises to a third of Adam's
// usual one in the first, and falls: the weights are near what they are to be.
func DefaultTune() Tune {
	c := train.DefaultConfig()
	c.Epochs, c.Optimizer.Rate, c.Optimizer.Schedule, c.Optimizer.Warmup = 5, 0.0003, "cosine", 1
	return Tune{Config: c}
}

// Run gives the model with the best weights by Val, those it came with among
// them. m must be one that train.From takes, and is not changed. Where ctx ends
// the best so far comes beside its error.
func (t Tune) Run(ctx context.Context, m *model.Model) (*model.Model, error) {
	if t.Progress == nil {
		t.Progress = func(string, int, int) {}
	}
	if t.Learn == nil {
		return nil, errors.New("fine-tuning: there is no data to learn from")
	}
	net, err := train.From(m)
	if err != nil {
		return nil, fmt.Errorf("fine-tuning: %w", err)
	}
	for _, p := range net.Params() {
		if !p.Decay {
			continue
		}
		p.KeepZeros()
		if group := Shared(p.W, p.Shape, t.Shared); group != nil {
			p.Share(group)
		}
	}
	if err := t.agrees(m, net); err != nil {
		return nil, fmt.Errorf("fine-tuning: %w", err)
	}
	tr := &train.Trainer{Net: net, Config: t.Config, KeepStart: true, Relative: true, Done: t.Epoch}
	if t.Before != nil {
		tr.Before = func(step, of int) { t.Before(net, step, of) }
	}
	err = t.load(ctx, net, tr)
	if err == nil {
		tr.Step = func(done, of int, _ float64) {
			t.Progress(fmt.Sprintf("epoch %d of %d", len(tr.History)+1, t.Config.Epochs), done, of)
		}
		err = tr.Run(ctx)
	}
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("fine-tuning: %w", err)
	}
	out, failed := net.Model()
	if failed != nil {
		return nil, fmt.Errorf("fine-tuning: %w", failed)
	}
	return out, err
}

// load gives the trainer its data, and chooses the loss.
func (t Tune) load(ctx context.Context, net *train.Network, tr *train.Trainer) error {
	var err error
	if tr.Train, err = t.data(ctx, net, t.Learn, "answers of the original"); err != nil {
		return err
	}
	if t.Val != nil {
		if tr.Val, err = t.data(ctx, net, t.Val, "answers of the original for validation"); err != nil {
			return err
		}
	}
	if t.Config.Loss != "" && t.Config.Loss != "auto" {
		return nil
	}
	switch final := net.Final(); {
	case t.Teacher != nil && final == "softmax":
		tr.Config.Loss = "soft_cross_entropy"
	case t.Teacher != nil && final == "sigmoid":
		tr.Config.Loss = "binary_cross_entropy"
	case t.Teacher == nil && tr.Train.Labels != nil && final == "none" && net.Out.Size() > 1:
		tr.Config.Loss = "cross_entropy" // the model answers with logits
	}
	return nil
}

// maxTargets is how many values all samples together may have to be answered
// with.
const maxTargets = 1 << 28

// data is a set with what is to be learned of it.
func (t Tune) data(ctx context.Context, net *train.Network, d *train.Dataset, what string) (*train.Dataset, error) {
	c := *d
	c.Low, c.High = t.Low, t.High
	in, out := d.Shape.Size(), net.Out.Size()
	soft := t.Teacher != nil || t.Task == Reconstruction
	if err := c.Check(); err != nil || !soft {
		if t.Task == Classes && d.Labels == nil || (t.Task == Regression || t.Task == Forecast) && d.Targets == nil {
			return nil, fmt.Errorf("data %s has nothing to learn for the task %s", d.Name, t.Task)
		}
		return &c, err
	}
	if n := d.Len(); n > maxTargets/out {
		return nil, fmt.Errorf("data %s: %d answers of %d values are more than %d in all; take fewer samples", d.Name, n, out, maxTargets)
	}
	c.Labels, c.Targets, c.Width = nil, make([]float32, 0, d.Len()*out), out
	if t.Teacher == nil {
		if in != out {
			return nil, fmt.Errorf("the model takes %d values and answers with %d: it reconstructs nothing", in, out)
		}
		c.Targets = c.Targets[:cap(c.Targets)]
		for i := range d.Len() {
			c.Input(c.Targets[i*in:(i+1)*in], i)
		}
		return &c, nil
	}
	s, err := infer.OpenSession(t.Teacher, "builtin", t.Library)
	if err != nil {
		return nil, fmt.Errorf("the original: %w", err)
	}
	defer s.Close()
	for i := range d.Len() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if c.Targets, err = t.answer(s, &c, i, c.Targets); err != nil {
			return nil, fmt.Errorf("the original: %w", err)
		}
		if len(c.Targets) != (i+1)*out {
			return nil, fmt.Errorf("the original answers with %d values, the model with %d", len(c.Targets)-i*out, out)
		}
		t.Progress(what, i+1, d.Len())
	}
	return &c, c.Check()
}

// answer appends what a model says to sample i, all outputs one behind the
// other.
func (t Tune) answer(s *infer.Session, d *train.Dataset, i int, to []float32) ([]float32, error) {
	samples := &Samples{Set: d, Low: t.Low, High: t.High}
	if err := samples.Fill(s.In, i); err != nil {
		return nil, err
	}
	if err := s.Invoke(); err != nil {
		return nil, err
	}
	var v []float64
	for _, o := range s.Out {
		v = o.Floats(v)
	}
	for _, x := range v {
		to = append(to, float32(x))
	}
	return to, nil
}

// agrees holds the network against the runtime on a few samples: what is
// trained is to be the model that runs.
func (t Tune) agrees(m *model.Model, net *train.Network) error {
	d := *t.Learn
	d.Low, d.High = t.Low, t.High
	if err := d.Check(); err != nil {
		return err
	}
	if d.Shape.Size() != net.In.Size() {
		return fmt.Errorf("data %s: inputs of %v, the model takes %v", d.Name, []int(d.Shape), []int(net.In))
	}
	file, err := m.Write()
	if err != nil {
		return err
	}
	s, err := infer.OpenSession(file, "builtin", t.Library)
	if err != nil {
		return err
	}
	defer s.Close()
	x := make([]float32, net.In.Size())
	var want []float32
	for i := range min(4, d.Len()) {
		d.Input(x, i)
		got := net.Predict(x, 1)
		if want, err = t.answer(s, &d, i, want[:0]); err != nil {
			return err
		}
		limit := 1e-3
		for _, v := range want {
			limit = max(limit, 1e-3*math.Abs(float64(v)))
		}
		for k, v := range want {
			if k >= len(got) || !(math.Abs(float64(v-got[k])) <= limit) {
				return fmt.Errorf("the runtime answers otherwise than the layers that would be trained: sample %d, value %d", i, k)
			}
		}
	}
	return nil
}

// Shared says which weights have the same value because they share it: a group
// number for each, -1 for those that are 0; nil where none share. They do where
// the whole array has at most so many different values other than 0, or else
// each of its output channels. most 0 is 64, three weights a value on average,
// and not the steps of what was an integer model; negative finds none. shape is
// that of weights as TFLite stores them: channels come first, and last where the
// first dimension of four is 1.
func Shared(w []float32, shape []int, most int) []int32 {
	if most < 0 || len(w) == 0 {
		return nil
	}
	per := 1
	if most == 0 {
		most, per = 64, 3
	}
	first, last := 1, 1
	if len(shape) > 1 {
		first, last = shape[0], shape[len(shape)-1]
	}
	channel := func(i int) int { return i / (len(w) / first) }
	if len(shape) == 4 && first == 1 {
		channel = func(i int) int { return i % last }
	}
	for _, of := range []func(int) int{func(int) int { return 0 }, channel} {
		if group := sameValues(w, of, most, per); group != nil {
			return group
		}
	}
	return nil
}

// sameValues numbers the different values within each channel; nil where one has
// too many of them, or hardly any weight shares its value.
func sameValues(w []float32, channel func(int) int, most, per int) []int32 {
	type key struct {
		channel int
		value   float32
	}
	number, count := map[key]int32{}, map[int]int{}
	group := make([]int32, len(w))
	weights := 0
	for i, v := range w {
		if group[i] = -1; v == 0 {
			continue
		}
		weights++
		k := key{channel(i), v}
		n, ok := number[k]
		if !ok {
			if count[k.channel]++; count[k.channel] > most {
				return nil
			}
			n = int32(len(number))
			number[k] = n
		}
		group[i] = n
	}
	if weights == len(number) || weights < per*len(number) {
		return nil
	}
	if per > 1 && len(number) > 16 {
		step, rounded := map[int]float64{}, true
		for k := range number {
			if v := math.Abs(float64(k.value)); step[k.channel] == 0 || v < step[k.channel] {
				step[k.channel] = v
			}
		}
		for k := range number {
			n := float64(k.value) / step[k.channel]
			rounded = rounded && math.Abs(n-math.Round(n)) < 1e-3
		}
		if rounded { // whole multiples: these were integers, and are the same by chance
			return nil
		}
	}
	return group
}

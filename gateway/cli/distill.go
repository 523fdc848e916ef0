package cli

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"edgegateway/infer"
	"edgegateway/infer/compress"
	"edgegateway/infer/train"
)

// lesson is what a teacher adds to a training. A nil one adds nothing.
type lesson struct {
	Teachers    []string `json:"teachers"`
	Temperature float64  `json:"temperature"`
	Alpha       float64  `json:"alpha"`
	Hints       []string `json:"hints,omitempty"` // LAYER=TENSOR
	Beta        float64  `json:"beta,omitempty"`
	Unlabelled  bool     `json:"unlabelled,omitempty"`
	Pixels      string   `json:"pixels,omitempty"`
	// Same is how often student and teacher agree on what judges, in classes;
	// Away how far their values are apart on average, in others.
	Same *float64 `json:"same_class,omitempty"`
	Away *float64 `json:"mean_difference,omitempty"`

	files   [][]byte
	sums    []string
	labels  []string // of the first teacher
	width   int      // values in its answer
	ends    bool     // it ends in a softmax or sigmoid: it tells classes apart
	values  bool     // values are learned, not classes
	layers  []int    // of the student, that hints are about
	warm    bool     // a temperature was asked for
	teacher *compress.Teacher
}

func distillCommand() *cobra.Command {
	l := &lesson{}
	t := &training{cfg: train.DefaultConfig(), lesson: l}
	cmd := &cobra.Command{
		Use:   "distill",
		Short: "Train a small network to answer as a larger model does",
		Long: `Train a small network, the student, on the answers of a teacher: any .tflite, float
or quantized, or several, whose answers are averaged. The loss is
    alpha T² cross-entropy(teacher at temperature T) + (1 - alpha) cross-entropy(labels)
(arXiv:1503.02531); for values it is the squared error from both. The teacher sees
what the student sees, augmented as it is. With --unlabelled no label is looked at.
What is written, and what it says of it, is as with train.`,
		Example: `  edgegateway distill --teacher lenet.tflite --network mlp --data train-images-idx3-ubyte --temperature 4 --alpha 0.7 --out small.tflite
  edgegateway distill --teacher large.tflite --network small.yaml --data pictures --unlabelled --out small.tflite
  edgegateway distill --teacher large.tflite --network small.yaml --hint 2=conv_3/relu --beta 0.5 --data pictures`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := noneIdle(cmd, idle{l.Unlabelled, "--unlabelled looks at no label, the teacher says all", []string{"alpha", "class-weights"}},
				idle{len(l.Hints) == 0, "it is the weight of a --hint, and there is none", []string{"beta"}}); err != nil {
				return err
			}
			l.warm = cmd.Flags().Changed("temperature")
			return t.start(cmd)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&l.Teachers, "teacher", nil, "the .tflite to learn from; given again: the answers of all are averaged")
	f.Float64Var(&l.Temperature, "temperature", 4, "by what the logits of both are divided: the higher, the more of the wrong classes is learned")
	f.Float64Var(&l.Alpha, "alpha", 0.7, "the teacher's share of the loss, from 0 to 1; the rest is that of the labels")
	f.StringArrayVar(&l.Hints, "hint", nil, "LAYER=TENSOR: this layer of --network, counted from 0, learns what a tensor of the first teacher holds, through a linear map")
	f.Float64Var(&l.Beta, "beta", 1, "weight of each hint's mean squared error")
	f.BoolVar(&l.Unlabelled, "unlabelled", false, "do not look at labels: the teacher says all there is to learn")
	f.StringVar(&l.Pixels, "pixels", "", "of pictures: the real numbers that the bytes 0 and 255 are for the teacher, such as 0..1; by default -1..1, and to integer inputs the bytes as they are")
	t.add(cmd)
	return cmd
}

// blind says whether labels are not looked at.
func (l *lesson) blind() bool { return l != nil && l.Unlabelled }

// teachers are the files of the teachers.
func (l *lesson) teachers() []string {
	if l == nil {
		return nil
	}
	return l.Teachers
}

// read reads the teachers and gives the shape of what they take.
func (l *lesson) read() (train.Shape, error) {
	if len(l.Teachers) == 0 {
		return nil, &exitError{exitUsage, errors.New("--teacher is missing: a .tflite whose answers are learned")}
	}
	if l.Unlabelled {
		l.Alpha = 1
	}
	if len(l.Hints) == 0 {
		l.Beta = 0
	}
	for _, h := range l.Hints {
		layer, tensor, ok := strings.Cut(h, "=")
		n, err := strconv.Atoi(layer)
		if !ok || err != nil || n < 0 || tensor == "" {
			return nil, &exitError{exitUsage, fmt.Errorf("--hint %q is not LAYER=TENSOR, with a layer of --network counted from 0", h)}
		}
		l.layers = append(l.layers, n)
	}
	check := train.Teacher{Temperature: l.Temperature, Alpha: l.Alpha, Beta: l.Beta, Hints: make([]train.Hint, len(l.Hints)),
		Answer: func([]float32, int, []float32, [][]float32) error { return nil }}
	if err := check.Validate(); err != nil {
		return nil, &exitError{exitUsage, err}
	}
	var shape train.Shape
	for i, path := range l.Teachers {
		file, m, err := usableModel(path)
		if err != nil {
			return nil, err
		}
		g := m.Main()
		if len(g.Inputs) != 1 {
			return nil, invalid(fmt.Errorf("%s takes %d inputs; a teacher takes one", path, len(g.Inputs)))
		}
		if n := len(g.Outputs); n != 1 {
			return nil, invalid(fmt.Errorf("%s gives %d outputs; a student learns one, so a teacher gives one", path, n))
		}
		l.files = append(l.files, file)
		l.sums = append(l.sums, fmt.Sprintf("%x", sha256.Sum256(file)))
		if i > 0 {
			continue
		}
		if in := g.Tensors[g.Inputs[0]].Shape; len(in) > 1 {
			shape = in[1:]
		}
		if l.labels, err = m.Labels(); err != nil {
			l.labels = nil
		}
		l.ends = compress.TellsClasses(m)
		out := g.Tensors[g.Outputs[0]].Shape
		l.width = product(out[min(1, max(len(out)-1, 0)):])
	}
	return shape, nil
}

// fits refuses, before data is read, what cannot be learned of a teacher that
// takes pictures of a shape.
func (l *lesson) fits(t *training, shape train.Shape) error {
	if t.data.size != "" && len(shape) == 3 && shape[0] > 0 && shape[1] > 0 {
		size, err := pictureSize(t.data.size)
		if err != nil {
			return &exitError{exitUsage, err}
		}
		if !slices.Equal(size, shape) {
			return &exitError{exitUsage, fmt.Errorf("--size %s: the teacher takes %v, and so does a student of it; leave --size out", t.data.size, []int(shape))}
		}
	}
	spec := t.spec
	if spec == nil {
		preset, err := train.Preset(t.network, shape, max(l.width, 2))
		if err != nil {
			return nil // said where the data is known
		}
		spec = &preset
	}
	for _, i := range l.layers {
		if i >= len(spec.Layers) {
			return &exitError{exitUsage, fmt.Errorf("--hint %d=...: layer %d is none of the network's %d, which are counted from 0", i, i, len(spec.Layers))}
		}
	}
	return nil
}

// order numbers the classes as the teacher's labels are.
func (l *lesson) order(d *train.Dataset) {
	if l != nil && d.Labels != nil && len(l.labels) > 0 {
		inOrderOf(d, l.labels)
	}
}

// judges says whether a set's labels say something of the teacher's answers:
// more than one class, and those that it tells apart.
func (l *lesson) judges(d *train.Dataset) bool {
	if !l.ends || d.Labels == nil || slices.Min(d.Labels) == slices.Max(d.Labels) {
		return false
	}
	if len(l.labels) > 0 {
		return slices.Equal(d.Classes, l.labels) // order found each of them
	}
	n := len(d.Classes)
	return n == l.width || n == 2 && l.width == 1
}

// unlabel takes labels and targets from what is learned, and from what judges
// where they are not about what the teacher says.
func (l *lesson) unlabel(t *training) {
	if d := t.off; d.Labels != nil && len(d.Classes) > 1 && l.ends && !l.judges(d) {
		fmt.Fprintf(t.say, "the classes of %s are not those of the teacher: the student is judged by what its teacher says alone\n", d.Name)
	}
	for _, d := range []*train.Dataset{t.learn, t.hold, t.off} {
		if d == nil || d == t.off && l.judges(d) {
			continue
		}
		d.Labels, d.Targets, d.Width = nil, nil, 0
		if l.ends {
			d.Classes = l.labels
		}
	}
}

// open loads the teachers for what is to be learned of them.
func (l *lesson) open(t *training) error {
	l.values = t.learn.Labels == nil
	if l.Unlabelled {
		l.values = !l.ends
	}
	switch {
	case l.values && l.warm:
		return &exitError{exitUsage, errors.New("--temperature does nothing here: values are learned, which have no logits")}
	case l.Pixels != "" && t.learn.Pixels == nil:
		return &exitError{exitUsage, fmt.Errorf("--pixels does nothing here: it is about pictures, and %s holds none", t.data.path)}
	}
	cfg := compress.TeacherConfig{Files: l.files, Pictures: t.learn.Pixels != nil, Values: l.values}
	for _, h := range l.Hints {
		_, tensor, _ := strings.Cut(h, "=")
		cfg.Inner = append(cfg.Inner, tensor)
	}
	if l.Pixels != "" {
		var err error
		if cfg.Low, cfg.High, err = pixelRange(l.Pixels); err != nil {
			return err
		}
	}
	var err error
	if l.teacher, err = compress.OpenTeacher(cfg); err != nil {
		return invalid(fmt.Errorf("--teacher: %w", err))
	}
	if l.Unlabelled && l.values {
		// What it says are the targets: their scale is learned, and it is judged
		// by them.
		for _, d := range []*train.Dataset{t.learn, t.hold, t.off} {
			if d == nil {
				continue
			}
			if d.Targets, err = l.answers(d, l.teacher.Width); err != nil {
				l.teacher.Close()
				return invalid(fmt.Errorf("--teacher: %w", err))
			}
			d.Width = l.teacher.Width
		}
	}
	if n := len(t.learn.Classes); t.learn.Labels != nil && l.teacher.Width != n && !(l.teacher.Width == 1 && n == 2) {
		l.teacher.Close()
		return invalid(fmt.Errorf("the teacher tells %d classes apart, %s has %d", max(l.teacher.Width, 2), t.data.path, n))
	}
	return nil
}

// pupil is the teacher as the trainer takes it.
func (l *lesson) pupil() *train.Teacher {
	if l == nil {
		return nil
	}
	p := &train.Teacher{Name: fmt.Sprint(l.sums, l.Pixels, l.Hints), Answer: l.teacher.Answer, Temperature: l.Temperature, Alpha: l.Alpha, Beta: l.Beta}
	for i, layer := range l.layers {
		p.Hints = append(p.Hints, train.Hint{Layer: layer, Shape: l.teacher.Inner[i]})
	}
	return p
}

// answers are the teacher's to all samples, width values each.
func (l *lesson) answers(d *train.Dataset, width int) ([]float32, error) {
	n, size := d.Len(), 1
	for _, v := range d.Shape {
		size *= v
	}
	x, out := make([]float32, 256*size), make([]float32, n*width)
	for from := 0; from < n; from += 256 {
		some := min(256, n-from)
		for i := range some {
			d.Input(x[i*size:(i+1)*size], from+i)
		}
		if err := l.teacher.Answer(x[:some*size], some, out[from*width:(from+some)*width], nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// agree holds the written student against its teacher on what judges.
func (l *lesson) agree(file []byte, d *train.Dataset) error {
	s, err := infer.OpenSession(file, "builtin", "")
	if err != nil {
		return err
	}
	defer s.Close()
	width := s.Out[0].Len()
	want, err := l.answers(d, width)
	if err != nil {
		return err
	}
	data := compress.Samples{Set: d}
	same, away := 0, 0.0
	var got []float64
	for i := range d.Len() {
		if err := data.Fill(s.In, i); err != nil {
			return err
		}
		if err := s.Invoke(); err != nil {
			return err
		}
		got = s.Out[0].Floats(got[:0])
		a, b := 0, 0
		for j, v := range want[i*width : (i+1)*width] {
			away += math.Abs(got[j]-float64(v)) / float64(width*d.Len())
			if v > want[i*width+a] {
				a = j
			}
			if got[j] > got[b] {
				b = j
			}
		}
		if width == 1 { // of the second of two classes
			a, b = 0, 0
			if want[i] > 0 {
				a = 1
			}
			if got[0] > 0.5 {
				b = 1
			}
		}
		if a == b {
			same++
		}
	}
	if share := float64(same) / float64(d.Len()); l.values {
		l.Away = &away
	} else {
		l.Same = &share
	}
	return nil
}

// line says how good the student is.
func (l *lesson) line(q *compress.Quality) string {
	var parts []string
	if q != nil {
		parts = append(parts, qualityLine(q))
	}
	if l != nil && l.Same != nil {
		parts = append(parts, fmt.Sprintf("the class that its teacher says in %.2f %%", 100**l.Same))
	}
	if l != nil && l.Away != nil {
		parts = append(parts, fmt.Sprintf("%.4g away from its teacher on average", *l.Away))
	}
	return strings.Join(parts, "; ")
}

package compress

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"

	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// TeacherConfig says which models teach, and what they take.
type TeacherConfig struct {
	// Files are .tflite models, float or quantized, of one input each. The logits
	// or values of several are averaged.
	Files   [][]byte
	Library string // the TensorFlow Lite library; "": the one in the program
	// Pictures says that inputs are pictures, as a network sees them: -1 to 1.
	// Low and High are what -1 and 1 are for the teacher; both 0: the same, and to
	// integer inputs the bytes that they stand for.
	Pictures  bool
	Low, High float64
	// Inner are the names of tensors of the first model that hints are about.
	Inner []string
	// Values says that its answers are learned as they are; otherwise they are
	// classes, and logits are given.
	Values bool
}

// Teacher is models that answer a network that learns from them. It is for one
// goroutine; several of its own run the models.
type Teacher struct {
	Width int           // of the first output
	Inner []train.Shape // of the tensors of Inner, one sample each
	cfg   TeacherConfig
	logs  []bool // models that answer with probabilities, of which logits are the logarithms
	lanes []lane
}

// lane is what one goroutine runs: a session for each model.
type lane struct {
	sessions []*infer.Session
	row, out []float64
	sum      []float64
}

// OpenTeacher loads the models. Where one ends in a softmax or a sigmoid and
// classes are learned, the tensor before that is asked for: the logits, as fine
// as they were computed, which an int8 answer in steps of 1/256 no longer tells.
func OpenTeacher(cfg TeacherConfig) (*Teacher, error) {
	if len(cfg.Files) == 0 {
		return nil, errors.New("there is no teacher")
	}
	t := &Teacher{cfg: cfg}
	files := make([][]byte, len(cfg.Files))
	t.logs = make([]bool, len(cfg.Files))
	for i, file := range cfg.Files {
		var inner []string
		if i == 0 {
			inner = cfg.Inner
		}
		var err error
		if files[i], t.logs[i], err = teaching(file, inner, !cfg.Values); err != nil {
			return nil, fmt.Errorf("teacher %d: %w", i+1, err)
		}
	}
	for range runtime.GOMAXPROCS(0) {
		l := lane{}
		t.lanes = append(t.lanes, l)
		for i, file := range files {
			s, err := infer.OpenSession(file, "xnnpack:3", cfg.Library)
			if err != nil {
				s, err = infer.OpenSession(file, "builtin", cfg.Library)
			}
			if err != nil {
				t.Close()
				return nil, fmt.Errorf("teacher %d: %w", i+1, err)
			}
			l.sessions = append(l.sessions, s)
			t.lanes[len(t.lanes)-1] = l
			if w := s.Out[0].Len(); i > 0 && w != t.Width {
				t.Close()
				return nil, fmt.Errorf("teacher %d answers with %d values, the first with %d", i+1, w, t.Width)
			}
			if len(s.In) != 1 {
				t.Close()
				return nil, fmt.Errorf("teacher %d takes %d inputs; a network that learns from it takes one", i+1, len(s.In))
			}
			t.Width = s.Out[0].Len()
		}
	}
	for _, o := range t.lanes[0].sessions[0].Out[1:] {
		t.Inner = append(t.Inner, slices.Clone(o.Shape[min(1, len(o.Shape)):]))
	}
	return t, nil
}

// Close frees the models.
func (t *Teacher) Close() {
	for _, l := range t.lanes {
		for _, s := range l.sessions {
			s.Close()
		}
	}
	t.lanes = nil
}

// teaching is a model that answers with what is learned of it: its first
// output, or the logits behind it, then inner tensors. It says whether the
// answers are probabilities all the same.
func teaching(file []byte, inner []string, logits bool) (made []byte, log bool, err error) {
	m, err := model.Read(file)
	if err != nil {
		return nil, false, err
	}
	if len(m.Subgraphs) != 1 {
		return nil, false, fmt.Errorf("the model has %d subgraphs; a teacher has one", len(m.Subgraphs))
	}
	m = m.Clone()
	g := m.Main()
	outputs := g.Outputs[:1:1]
	if logits {
		var at int
		at, log = logitsOf(g)
		outputs = []int{at}
	}
	for _, name := range inner {
		at, err := tensorNamed(g, name)
		if err != nil {
			return nil, false, err
		}
		if slices.Contains(outputs, at) {
			return nil, false, fmt.Errorf("tensor %q is its answer, or named twice", name)
		}
		outputs = append(outputs, at)
	}
	g.Outputs = outputs
	m.Signatures = nil // they name the old outputs
	if err := m.SetLabels(nil); err != nil {
		return nil, false, err
	}
	m.Tidy()
	made, err = m.Write()
	return made, log, err
}

// logitsOf gives the tensor before the last softmax or sigmoid of a graph, its
// first output where it ends in neither: that is taken for logits. log is true
// for a softmax of scaled logits, which is given as it is.
func logitsOf(g *model.Subgraph) (at int, log bool) {
	at = g.Outputs[0]
	for range g.Ops {
		p := g.Producer(at)
		if p < 0 {
			break
		}
		switch op := &g.Ops[p]; op.Code {
		case "RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE":
			at = op.Inputs[0]
			continue
		case "LOGISTIC", "SOFTMAX":
			o, scaled := op.Builtin.(*model.SoftmaxOptions)
			if scaled = scaled && o.Beta != 1; scaled || g.Producer(op.Inputs[0]) < 0 {
				return g.Outputs[0], scaled
			}
			return op.Inputs[0], false
		}
		break
	}
	return g.Outputs[0], false
}

// TellsClasses says whether a model ends in a softmax or a sigmoid.
func TellsClasses(m *model.Model) bool {
	at, log := logitsOf(m.Main())
	return log || at != m.Main().Outputs[0]
}

// tensorNamed finds a computed tensor; one named after all that was fused into
// it, joined by semicolons, is also known by the first of these names.
func tensorNamed(g *model.Subgraph, name string) (int, error) {
	var names []string
	fused := -1
	for _, op := range g.Ops {
		for _, i := range op.Outputs {
			own, _, _ := strings.Cut(g.Tensors[i].Name, ";")
			if g.Tensors[i].Name == name {
				return i, nil
			}
			if own == name && fused < 0 {
				fused = i
			}
			names = append(names, fmt.Sprintf("%q", own))
		}
	}
	if fused >= 0 {
		return fused, nil
	}
	return 0, fmt.Errorf("no operator computes a tensor %q; there are %s", name, strings.Join(names, ", "))
}

// Answer writes what the models say of n inputs, one after the other in x as a
// network sees them, into out: n times so many values as the network has
// outputs. Where one model answers for the second of two classes, and the other
// for both, logits are made to fit. inner is empty, or has room for the values of
// all inner tensors.
func (t *Teacher) Answer(x []float32, n int, out []float32, inner [][]float32) error {
	width := len(out) / max(n, 1)
	fits := t.Width == width || !t.cfg.Values && (t.Width == 1 && width == 2 || t.Width == 2 && width == 1)
	if !fits {
		return fmt.Errorf("it answers with %d values, the network with %d", t.Width, width)
	}
	errs := make([]error, len(t.lanes))
	var all sync.WaitGroup
	for k := range t.lanes {
		all.Go(func() {
			for i := k * n / len(t.lanes); i < (k+1)*n/len(t.lanes) && errs[k] == nil; i++ {
				size := len(x) / n
				errs[k] = t.one(&t.lanes[k], x[i*size:(i+1)*size], out[i*width:(i+1)*width], inner, i)
			}
		})
	}
	all.Wait()
	return cmp.Or(errs...)
}

// one asks all models about one input.
func (t *Teacher) one(l *lane, x, out []float32, inner [][]float32, i int) error {
	l.sum = append(l.sum[:0], make([]float64, t.Width)...)
	for k, s := range l.sessions {
		if err := t.fill(l, &s.In[0], x); err != nil {
			return err
		}
		if err := s.Invoke(); err != nil {
			return err
		}
		l.out = s.Out[0].Floats(l.out[:0])
		for j, v := range l.out {
			if t.logs[k] {
				v = math.Log(max(v, 1e-30))
			}
			l.sum[j] += v / float64(len(l.sessions))
		}
		if k > 0 {
			continue
		}
		for h, to := range inner {
			l.out = s.Out[h+1].Floats(l.out[:0])
			for j, v := range l.out {
				to[i*len(l.out)+j] = float32(v)
			}
		}
	}
	switch {
	case t.Width == 1 && len(out) == 2:
		out[0], out[1] = 0, float32(l.sum[0])
	case t.Width == 2 && len(out) == 1:
		out[0] = float32(l.sum[1] - l.sum[0])
	default:
		for j, v := range l.sum {
			out[j] = float32(v)
		}
	}
	return nil
}

// fill writes one input as the teacher takes it.
func (t *Teacher) fill(l *lane, in *infer.Tensor, x []float32) error {
	if in.Len() != len(x) {
		return fmt.Errorf("it takes %d values of shape %v, the network %d", in.Len(), in.Shape, len(x))
	}
	low, high := t.cfg.Low, t.cfg.High
	if low == 0 && high == 0 {
		low, high = -1, 1
		if t.cfg.Pictures && (in.Type == infer.Uint8 || in.Type == infer.Int8) {
			flip := byte(0)
			if in.Type == infer.Int8 {
				flip = 0x80
			}
			for j, v := range x {
				in.Data[j] = byte(min(max(math.Round((float64(v)+1)*127.5), 0), 255)) ^ flip
			}
			return nil
		}
	}
	l.row = l.row[:0]
	for _, v := range x {
		r := float64(v)
		if t.cfg.Pictures {
			r = low + (high-low)*(r+1)/2
		}
		l.row = append(l.row, r)
	}
	return in.SetFloats(l.row)
}

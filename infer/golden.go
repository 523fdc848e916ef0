package infer

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"edgegateway/infer/model"
)

// maxGolden is the bytes that one golden tensor may have.
const maxGolden = 64 << 20

// goldens are inputs with the answers that belong to them.
type goldens struct {
	list    []golden
	seen    []span     // of each output, over all answers
	objects *detection // the outputs are objects, which are compared as such
	limits  []int      // of indexes among the inputs
}

type golden struct {
	name      string // to be shown
	in, out   [][]byte
	tolerance float64
}

// readGoldens reads the files; of what length they must be, the model says.
func readGoldens(files []GoldenFiles, m *model.Model) (*goldens, error) {
	g := &goldens{objects: newJudge(m).boxes, limits: m.IndexLimits()}
	main := m.Main()
	for i, f := range files {
		one := golden{name: fmt.Sprintf("answer %d", i+1), tolerance: f.Tolerance}
		if len(f.Inputs) != len(main.Inputs) || len(f.Outputs) != len(main.Outputs) {
			return nil, fmt.Errorf("%s has %d inputs and %d outputs, the model %d and %d", one.name, len(f.Inputs), len(f.Outputs), len(main.Inputs), len(main.Outputs))
		}
		if !(f.Tolerance >= 0) || math.IsInf(f.Tolerance, 0) {
			return nil, fmt.Errorf("%s has a tolerance of %v", one.name, f.Tolerance)
		}
		for k, path := range slices.Concat(f.Inputs, f.Outputs) {
			b, err := readAtMost(path, maxGolden)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", one.name, err)
			}
			if k < len(f.Inputs) {
				one.in = append(one.in, b)
			} else {
				one.out = append(one.out, b)
			}
		}
		g.list = append(g.list, one)
	}
	return g, nil
}

func readAtMost(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", filepath.Base(path), limit)
	}
	return b, err
}

// fill puts the i-th input where the model takes it.
func (g *goldens) fill(i int, in []Tensor) error {
	for k := range in {
		if err := in[k].SetBytes(g.list[i].in[k]); err != nil {
			return fmt.Errorf("%s: %w", g.list[i].name, err)
		}
	}
	if err := checkIndexes(in, g.limits); err != nil {
		return fmt.Errorf("%s: %w", g.list[i].name, err)
	}
	return nil
}

// expected is an answer as tensors of the kind that the model gives.
func (g *goldens) expected(i int, like []Tensor) ([]Tensor, error) {
	want := slices.Clone(like)
	for k := range want {
		b := g.list[i].out[k]
		if len(b) != len(like[k].Data) {
			return nil, fmt.Errorf("%s: output %d is %v %v, %d bytes; the file has %d", g.list[i].name, k, like[k].Shape, like[k].Type, len(like[k].Data), len(b))
		}
		want[k].Data = b
	}
	return want, nil
}

// look takes the range of each output over all answers.
func (g *goldens) look(like []Tensor) error {
	j := &judge{}
	for i := range g.list {
		want, err := g.expected(i, like)
		if err != nil {
			return err
		}
		j.see(want)
	}
	g.seen = j.seen
	return nil
}

// miss is how far an answer is off and how far it may be.
type miss struct {
	off, limit float64
	unit       string
	text       string
}

func (m miss) share() float64 {
	switch {
	case m.off == 0:
		return 0
	case m.limit == 0:
		return math.Inf(1)
	}
	return m.off / m.limit
}

// compare finds the element of the i-th answer that is furthest off. look came
// before.
func (g *goldens) compare(i int, got []Tensor) (worst miss, err error) {
	want, err := g.expected(i, got)
	if err != nil {
		return worst, err
	}
	if g.objects != nil {
		if why := g.objects.disagree(want, got); why != "" {
			return worst, errors.New(g.list[i].name + ": " + why)
		}
		return worst, nil
	}
	for k := range want {
		for e := range want[k].Len() {
			if m := g.miss(i, k, e, &want[k], &got[k]); worst.text == "" || m.share() > worst.share() {
				worst = m
			}
		}
	}
	return worst, nil
}

// miss is how far one element is off.
func (g *goldens) miss(answer, output, element int, want, got *Tensor) miss {
	w, v := want.Float(element), got.Float(element)
	m := miss{off: math.Abs(w - v), limit: g.list[answer].tolerance}
	switch {
	case want.Type == Float32:
		s := g.seen[output]
		m.off /= max(s.high-s.low, math.Abs(s.high), math.Abs(s.low), 1e-6)
		m.unit = "of the range"
		if m.limit == 0 {
			m.limit = floatAgrees
		}
	case want.Scale > 0:
		m.off = math.Round(m.off / float64(want.Scale))
		m.unit = "steps"
		if m.limit == 0 {
			m.limit = stepsAgree
		}
	default:
		m.unit = "steps"
	}
	if w != w && v != v || w == v { // no number, or endless, as it shall be
		m.off = 0
	}
	if m.off != m.off {
		m.off = math.Inf(1)
	}
	m.text = fmt.Sprintf("%s: element %d of output %d is %.6g, not %.6g", g.list[answer].name, element, output, v, w)
	return m
}

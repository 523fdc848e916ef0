package compress

import (
	"fmt"
	"math"
	"math/rand/v2"

	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// Samples are a data set as models of one input take it. It is for one
// goroutine.
type Samples struct {
	Set *train.Dataset
	// Low and High are what the bytes 0 and 255 of a picture stand for; both 0:
	// -1 and 1, and to integer inputs the bytes as they are, as networks of this
	// program and the gateway have it.
	Low, High float64

	row []float64
}

// Len is the number of samples.
func (s *Samples) Len() int { return s.Set.Len() }

// Data are the labels of the samples.
func (s *Samples) Data() *train.Dataset { return s.Set }

// Fill writes sample i into the model's only input.
func (s *Samples) Fill(in []infer.Tensor, i int) error {
	if len(in) != 1 {
		return fmt.Errorf("the model takes %d inputs; a data set has one", len(in))
	}
	size := 1
	for _, d := range s.Set.Shape {
		size *= d
	}
	if n := in[0].Len(); n != size {
		return fmt.Errorf("the model takes %d values of shape %v, a sample of %s has %d of shape %v", n, in[0].Shape, s.Set.Name, size, []int(s.Set.Shape))
	}
	s.row = s.row[:0]
	if s.Set.Pixels == nil {
		for _, v := range s.Set.Values[i*size : (i+1)*size] {
			s.row = append(s.row, float64(v))
		}
		return in[0].SetFloats(s.row)
	}
	if s.Low == 0 && s.High == 0 && (in[0].Type == infer.Uint8 || in[0].Type == infer.Int8) {
		flip := byte(0)
		if in[0].Type == infer.Int8 {
			flip = 0x80
		}
		for j, b := range s.Set.Pixels[i*size : (i+1)*size] {
			in[0].Data[j] = b ^ flip
		}
		return nil
	}
	low, high := s.limits()
	for _, b := range s.Set.Pixels[i*size : (i+1)*size] {
		s.row = append(s.row, low+(high-low)*float64(b)/255)
	}
	return in[0].SetFloats(s.row)
}

func (s *Samples) limits() (low, high float64) {
	if s.Low == 0 && s.High == 0 {
		return -1, 1
	}
	return s.Low, s.High
}

// InputRange is what a byte of a picture can stand for: an input's scale is
// then known, whatever these pictures hold.
func (s *Samples) InputRange() (low, high float64, ok bool) {
	low, high = s.limits()
	return low, high, s.Set.Pixels != nil
}

// Ranged are Inputs whose values are known to lie within a range.
type Ranged interface {
	InputRange() (low, high float64, ok bool)
}

// Structured are made up inputs for a model without data: for a picture's
// shape slopes, discs and stripes between low and high, for others waves and
// normal noise of deviation 1. They are the same for the same seed. What a
// model reaches on them is a guess of what it reaches on real data.
type Structured struct {
	N         int
	Seed      uint64
	Low, High float64 // of pictures; both 0: as the model has it, or -1 and 1
	// Times makes numbers of which the model does not say how large they are so
	// many times as large; below 1: 1.
	Times float64

	mean, dev [][]float64 // by input and place in its last dimension; nil: 0 and 1
	pictured  []bool      // by input; nil: MadeUp did not make them
}

// Len is N.
func (s Structured) Len() int { return s.N }

// InputRange is that of pictures; that of numbers is not known.
func (s Structured) InputRange() (low, high float64, ok bool) { return 0, 0, false }

// Fill writes input i, a function of the seed and i alone.
func (s Structured) Fill(in []infer.Tensor, i int) error {
	for k := range in {
		t := &in[k]
		low, high := s.levels(k)
		r := rand.New(rand.NewPCG(s.Seed, uint64(i)<<8|uint64(k)))
		v := make([]float64, t.Len())
		switch sh := t.Shape; {
		case t.Type == infer.Int32 || t.Type == infer.Int64:
			for j := range v {
				v[j] = float64(r.IntN(10))
			}
		case pictured(sh):
			picture(v, sh[1], sh[2], sh[3], r)
			for j := range v {
				v[j] = low + (high-low)*min(max(v[j], 0), 1)
			}
		default:
			f, p, a := 0.01+0.5*r.Float64(), 6*r.Float64(), 2*r.Float64()
			for j := range v {
				v[j] = a*math.Sin(f*float64(j)+p) + r.NormFloat64()
			}
			s.settle(k, v)
		}
		if err := t.SetFloats(v); err != nil {
			return fmt.Errorf("input %d: %w", k, err)
		}
	}
	return nil
}

// pictured says whether what has this shape is drawn as a picture.
func pictured(shape []int) bool {
	return len(shape) == 4 && (shape[3] == 1 || shape[3] == 3) && shape[1] > 8 && shape[2] > 8
}

// picture draws values of about 0..1.
func picture(v []float64, h, w, c int, r *rand.Rand) {
	type disc struct{ x, y, r2, level float64 }
	var discs []disc
	for range 2 + r.IntN(6) {
		radius := 0.05 + 0.3*r.Float64()
		discs = append(discs, disc{r.Float64(), r.Float64(), radius * radius, r.Float64()})
	}
	base, dx, dy := r.Float64(), r.Float64()-0.5, r.Float64()-0.5
	angle, fine, stripes := math.Pi*r.Float64(), 10+60*r.Float64(), 0.3*r.Float64()
	tint := [3]float64{0.7 + 0.6*r.Float64(), 0.7 + 0.6*r.Float64(), 0.7 + 0.6*r.Float64()}
	noise := 0.08 * r.Float64()
	for i := range v {
		x, y := float64(i/c%w)/float64(w), float64(i/c/w)/float64(h)
		p := base + dx*x + dy*y + stripes*math.Sin(fine*(x*math.Cos(angle)+y*math.Sin(angle)))
		for _, d := range discs {
			if (x-d.x)*(x-d.x)+(y-d.y)*(y-d.y) < d.r2 {
				p = d.level + 0.3*(x-y)
			}
		}
		v[i] = p*tint[i%c] + noise*r.NormFloat64()
	}
}

// inputRanges are the fixed ranges of a model's inputs, where data knows them.
func inputRanges(m *model.Model, data Inputs) map[string][2]float64 {
	r, ok := data.(Ranged)
	if !ok {
		return nil
	}
	low, high, ok := r.InputRange()
	if !ok {
		return nil
	}
	fixed := map[string][2]float64{}
	for _, in := range m.Main().Inputs {
		fixed[m.Main().Tensors[in].Name] = [2]float64{low, high}
	}
	return fixed
}

package drift

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// Bounds of a reference, which comes from outside.
const (
	MaxFeatures = 48      // numbers of a sample, the label beside them
	MaxClasses  = 64      // labels that are told apart; all others are one
	MaxBytes    = 1 << 20 // of a reference as JSON
	maxBins     = 3*parts + 3
	maxWindows  = 64
	maxName     = 256 // bytes of a feature's or a class's name
	parts       = 32  // shares of the samples that a number's bins are made by
	format      = 1
)

// Reference says how the samples of unchanged data are spread. It is what a
// model's bundle carries, as JSON: no sample is in it.
type Reference struct {
	Format  int    `json:"format"`
	Samples int    `json:"samples"`         // it was made of
	Model   string `json:"model,omitempty"` // whose answers are among the features, as its maker names it
	// Inputs is how many of the features, the first ones, are of what the model
	// takes; what follows is of what it answers.
	Inputs   int       `json:"inputs"`
	Features []Feature `json:"features"`
	Windows  []Spread  `json:"windows"` // by their size
	Picture  *Picture  `json:"picture,omitempty"`
}

// Feature is how one number of a sample, or its class, is spread.
type Feature struct {
	Name string `json:"name"`
	// Edges are the upper bounds of a number's bins, ascending; what is above
	// the last is in one more. They are nil for a class.
	Edges []float64 `json:"edges,omitempty"`
	// Classes are the labels by index, nil for a number; a label that is none
	// of them is in one more bin.
	Classes []string `json:"classes,omitempty"`
	Counts  []uint32 `json:"counts"` // of the samples, by bin
	// Center and Scale are the median of a number and what stands for its
	// standard deviation.
	Center float64 `json:"center,omitempty"`
	Scale  float64 `json:"scale,omitempty"`
}

// Spread is how far windows of so many samples that follow each other are from
// the rest of the reference, by feature.
type Spread struct {
	Samples int `json:"samples"`
	Blocks  int `json:"blocks"` // that do not overlap
	// Inflate is how many times as far they are as samples would be that do not
	// depend on each other; of a class its PSI, of a number its KS distance.
	Inflate []float64 `json:"inflate"`
	Worst   []float64 `json:"worst"` // the farthest one
	// Outside is the largest share of a window that is above all of the rest, or
	// below all of it; 0 of a class.
	Outside []float64 `json:"outside"`
	// Together is how many extreme values come together, 1 of independent samples.
	Together []float64 `json:"together"`
}

// Class says whether the feature is a class.
func (f *Feature) class() bool { return f.Edges == nil }

// bin of a number: the first whose bound is not below it. What is no number is
// in the last.
func (f *Feature) bin(v float64) uint8 {
	low, high := 0, len(f.Edges)
	for low < high {
		mid := int(uint(low+high) / 2)
		if v <= f.Edges[mid] {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return uint8(low)
}

// far is how many standard deviations, about, a number is from the median.
func (f *Feature) far(v float64) float64 {
	if d := math.Abs(v-f.Center) / f.Scale; d < 1e6 {
		return d
	}
	return 1e6 // and where it is no number
}

// ReadFile is Read of a file; the error names it.
func ReadFile(path string) (*Reference, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Read reads a reference as Write wrote it, of at most MaxBytes, and checks
// all of it.
func Read(in io.Reader) (*Reference, error) {
	b, err := io.ReadAll(io.LimitReader(in, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("drift reference: %w", err)
	}
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("drift reference: has over %d bytes", MaxBytes)
	}
	var r Reference
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("drift reference: %w", err)
	}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("drift reference: %w", err)
	}
	return &r, nil
}

// Write writes it as JSON.
func (r *Reference) Write(out io.Writer) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("drift reference: %w", err)
	}
	if len(b) > MaxBytes {
		return fmt.Errorf("drift reference: it would have %d bytes, over %d", len(b), MaxBytes)
	}
	_, err = out.Write(append(b, '\n'))
	return err
}

// Validate checks that its parts fit together: a Monitor trusts it then.
func (r *Reference) Validate() error {
	switch {
	case r.Format != format:
		return fmt.Errorf("its format is %d, this program reads %d", r.Format, format)
	case len(r.Features) == 0 || len(r.Features) > MaxFeatures+1:
		return fmt.Errorf("%d features are not in 1..%d", len(r.Features), MaxFeatures+1)
	case r.Inputs < 0 || r.Inputs > len(r.Features):
		return fmt.Errorf("%d inputs of %d features", r.Inputs, len(r.Features))
	case r.Samples < MinSamples || r.Samples > math.MaxInt32:
		return fmt.Errorf("%d samples are too few or too many", r.Samples)
	case len(r.Windows) == 0 || len(r.Windows) > maxWindows:
		return fmt.Errorf("%d sizes of windows are not in 1..%d", len(r.Windows), maxWindows)
	case len(r.Model) > maxName:
		return errors.New("the model's name is too long")
	}
	for i := range r.Features {
		if err := r.Features[i].validate(r.Samples); err != nil {
			return fmt.Errorf("feature %d: %w", i, err)
		}
		if r.Features[i].class() && i < len(r.Features)-1 {
			return fmt.Errorf("feature %d: a class is the last one", i)
		}
	}
	before := 0
	for _, w := range r.Windows {
		if w.Samples <= before || w.Samples > r.Samples || w.Blocks < 1 || len(w.Inflate) != len(r.Features) || len(w.Worst) != len(r.Features) || len(w.Outside) != len(r.Features) || len(w.Together) != len(r.Features) {
			return fmt.Errorf("windows of %d samples: do not fit", w.Samples)
		}
		before = w.Samples
		for i := range w.Inflate {
			if !(w.Inflate[i] >= 1 && w.Inflate[i] < 1e9 && w.Worst[i] >= 0 && w.Worst[i] < 1e9 && w.Outside[i] >= 0 && w.Outside[i] <= 1 && w.Together[i] >= 1 && w.Together[i] < 1e9) {
				return fmt.Errorf("windows of %d samples: feature %d is out of range", w.Samples, i)
			}
		}
	}
	if r.Picture != nil {
		return r.Picture.validate()
	}
	return nil
}

func (f *Feature) validate(samples int) error {
	if len(f.Name) > maxName {
		return errors.New("its name is too long")
	}
	bins := len(f.Edges) + 1
	if f.class() {
		bins = len(f.Classes) + 1
		if len(f.Classes) > MaxClasses {
			return fmt.Errorf("%d classes are over %d", len(f.Classes), MaxClasses)
		}
		for _, c := range f.Classes {
			if len(c) > maxName {
				return errors.New("a class's name is too long")
			}
		}
	} else if !(f.Scale > 0) || f.Scale > math.MaxFloat64 || f.Center-f.Center != 0 {
		return errors.New("center and scale are out of range")
	}
	if len(f.Counts) != bins || bins > maxBins && !f.class() {
		return fmt.Errorf("%d counts in %d bins", len(f.Counts), bins)
	}
	for i, e := range f.Edges {
		if e-e != 0 || i > 0 && e <= f.Edges[i-1] {
			return errors.New("its bounds do not ascend")
		}
	}
	if total(f.Counts) != uint64(samples) {
		return fmt.Errorf("%d counts of %d samples", total(f.Counts), samples)
	}
	return nil
}

// one is a Spread of one feature.
type one struct{ inflate, worst, outside, together float64 }

func (s Spread) of(k int) one { return one{s.Inflate[k], s.Worst[k], s.Outside[k], s.Together[k]} }

// spread is that of windows of n samples, of one feature. Between two sizes
// that are known it is the worse of both; of windows larger than all it is what
// it would be if nothing evened out any more.
func (r *Reference) spread(n, k int) one {
	at, found := slices.BinarySearchFunc(r.Windows, n, func(w Spread, n int) int { return w.Samples - n })
	b := r.Windows[min(at, len(r.Windows)-1)].of(k)
	if found || at == 0 {
		return b
	}
	a := r.Windows[at-1].of(k)
	if at < len(r.Windows) {
		return one{max(a.inflate, b.inflate), max(a.worst, b.worst), max(a.outside, b.outside), max(a.together, b.together)}
	}
	more := float64(n) / float64(r.Largest())
	a.together *= more
	if r.Features[k].class() {
		a.inflate *= more
	} else {
		a.inflate *= math.Sqrt(more)
	}
	return a
}

// Largest is the size of the largest window that the reference is sure of.
func (r *Reference) Largest() int { return r.Windows[len(r.Windows)-1].Samples }

package compress

import (
	"context"
	"fmt"

	"edgegateway/infer/model"
)

// Doubt is how much less two models agree where made up inputs lie otherwise than
// was assumed.
type Doubt struct {
	Assumed string    `json:"assumed"` // as Agreement has it
	Other   Agreement `json:"other"`
}

// Doubted compares two models, a and what was made of it, on made up inputs as
// other models take them: pictures of -1..1, 0..1 and 0..255, numbers ten times
// as large. is is how they agree on s. It gives the worst that is found: what one
// model loses is not seen where inputs lie in a corner of those that it learned
// from. It is nil where that is no worse than is by a hundredth, or where nothing
// had to be assumed, for s says what pictures are, or the model does.
func Doubted(ctx context.Context, a, b []byte, delegates [2]string, library string, s Structured, is Agreement) (*Doubt, error) {
	m, err := model.Read(a)
	if err != nil {
		return nil, err
	}
	at := MadeUp(m, s.N, s.Seed)
	var others []Structured
	for k, is := range at.pictured {
		switch {
		case at.mean[k] != nil || is && (s.Low != 0 || s.High != 0):
		case is:
			for _, r := range [][2]float64{{0, 1}, {0, 255}} {
				other := at
				other.Low, other.High = r[0], r[1]
				others = append(others, other)
			}
		case m.Main().Tensors[m.Main().Inputs[k]].Type == model.Float32:
			other := at
			other.Low, other.High, other.Times = s.Low, s.High, 10
			others = append(others, other)
		}
	}
	var worst *Doubt
	for _, other := range others {
		then, err := Compare(ctx, a, b, delegates, library, other)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			continue // what is no number there says nothing of it here
		}
		if then.kept() < is.kept()-0.01 && (worst == nil || then.kept() < worst.Other.kept()) {
			worst = &Doubt{is.Assumed, then}
		}
	}
	return worst, nil
}

// kept is the share of answers that stay.
func (a Agreement) kept() float64 {
	if a.Classes {
		return a.Top1
	}
	return 1 - a.Relative()
}

// String says it in a sentence.
func (d *Doubt) String() string {
	a := d.Other
	how := fmt.Sprintf("both differ by %.2f %% of the range", 100*a.Relative())
	if a.Classes {
		how = fmt.Sprintf("%.2f %% have the same first class", 100*a.Top1)
	}
	return fmt.Sprintf("that inputs are %s is assumed; where they are %s, %s", d.Assumed, a.Assumed, how)
}

package aggregate

import (
	"errors"
	"fmt"
	"math"
)

// Why an update is refused; the errors of Add say more.
var (
	ErrShape     = errors.New("the update is of another number of weights")
	ErrNotFinite = errors.New("the update holds a NaN or an infinity")
	ErrHuge      = errors.New("the update moves a weight too far")
	ErrSamples   = errors.New("the update's number of samples is no number of samples")
	ErrAge       = errors.New("the update's age is no age")
	ErrNameless  = errors.New("the update does not say whom it is from")
	ErrTwice     = errors.New("this update is there already")
	ErrFull      = errors.New("the round holds no more updates")
)

// Sums are of integers, each a term times 2^fraction, so that no order of
// adding changes a bit. A term is an update's move of one weight times its
// samples and is at most maxTerm: maxUpdates of them stay below 2^63. With
// updates of one sample each a mean is off by at most 2^-29, a 32-bit weight of
// 0.05 by as much; more samples make it finer.
const (
	fraction   = 28
	maxTerm    = 1 << 20
	maxUpdates = 1<<15 - 1
	maxSamples = 1 << 31
	maxAge     = 1 << 20
)

// peak is the largest absolute value of x, as its bits: those of an infinity or
// a NaN are above all others.
func peak(x []float32) (bits uint32) {
	for _, v := range x {
		bits = max(bits, math.Float32bits(v)&^(1<<31))
	}
	return bits
}

const infinite = 0xff << 23 // the bits of a float32 infinity

// check says what is wrong with an update of n weights, before anything is
// done with it.
func (u *Update) check(n int) (largest float64, err error) {
	if u.From == "" {
		return 0, ErrNameless
	}
	bits := peak(u.Delta)
	switch {
	case len(u.Delta) != n:
		return 0, fmt.Errorf("update of %s: %w: %d, the model has %d", u.From, ErrShape, len(u.Delta), n)
	case u.Samples < 1 || u.Samples > maxSamples:
		return 0, fmt.Errorf("update of %s: %w: %d is outside 1..%d", u.From, ErrSamples, u.Samples, maxSamples)
	case u.Age < 0 || u.Age > maxAge:
		return 0, fmt.Errorf("update of %s: %w: %d is outside 0..%d", u.From, ErrAge, u.Age, maxAge)
	case bits >= infinite:
		return 0, fmt.Errorf("update of %s: %w", u.From, ErrNotFinite)
	}
	return float64(math.Float32frombits(bits)), nil
}

// weakening is what an update counts for that was made from weights of age
// rounds before: FedBuff's 1/sqrt(1+age), arXiv:2106.06639.
func weakening(age int) float64 { return 1 / math.Sqrt(float64(1+age)) }

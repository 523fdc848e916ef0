package sensors

import (
	"errors"
	"fmt"
)

// NormaliseConfig scales what a model takes by constants of its training:
// (value - mean) / std. A list of one number is for all values, one of n for
// every n-th, as in a window of readings with n values.
type NormaliseConfig struct {
	Mean []float64 `yaml:"mean" desc:"what is taken from each value; one for all or one each"`
	Std  []float64 `yaml:"std" desc:"what each value is divided by then"`
}

// Validate checks that the numbers are finite and divide.
func (c NormaliseConfig) Validate() error {
	var errs []error
	for i, v := range c.Mean {
		if v-v != 0 {
			errs = append(errs, fmt.Errorf("mean[%d]: %v is no number", i, v))
		}
	}
	for i, v := range c.Std {
		if v == 0 || v-v != 0 {
			errs = append(errs, fmt.Errorf("std[%d]: %v cannot divide", i, v))
		}
	}
	return errors.Join(errs...)
}

// Apply scales the values in place. Its error says that their number fits
// neither list.
func (c NormaliseConfig) Apply(values []float64) error {
	if n := len(c.Mean); n > 0 {
		if len(values)%n != 0 {
			return &Error{wrongLength, fmt.Sprintf("normalise: %d values, mean has %d", len(values), n)}
		}
		for i := range values {
			values[i] -= c.Mean[i%n]
		}
	}
	if n := len(c.Std); n > 0 {
		if len(values)%n != 0 {
			return &Error{wrongLength, fmt.Sprintf("normalise: %d values, std has %d", len(values), n)}
		}
		for i := range values {
			values[i] /= c.Std[i%n]
		}
	}
	return nil
}

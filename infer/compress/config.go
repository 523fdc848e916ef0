package compress

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Config says how a model is quantized.
type Config struct {
	// Scheme is what becomes of numbers:
	//	int8     weights and values int8
	//	int16    weights int8, values int16
	//	dynamic  weights int8, values float; the runtime quantizes as it goes
	//	float16  weights float16, widened when the model is loaded
	Scheme string
	// Method chooses ranges from what calibration saw: minmax, percentile, mse.
	Method string
	// Keep is the share of values that percentile covers.
	Keep float64
	// FloatIO keeps the model's inputs and outputs float32.
	FloatIO bool
	// Equalise lets Shorten even out the channels of neighbouring layers first
	// (arXiv:1906.04721); CorrectBias takes the mean error of rounded weights out
	// of the biases.
	Equalise, CorrectBias bool
	// Float are operators, by their place, that stay float though they need not.
	Float []int
}

// Schemes and Methods are the values that Config takes.
var (
	Schemes = []string{"int8", "int16", "dynamic", "float16"}
	Methods = []string{"minmax", "percentile", "mse"}
)

// DefaultConfig is full int8 over all that calibration saw, with biases
// corrected.
func DefaultConfig() Config {
	return Config{Scheme: "int8", Method: "minmax", Keep: 0.9999, CorrectBias: true}
}

// Validate says what is wrong.
func (c Config) Validate() error {
	var errs []error
	if !slices.Contains(Schemes, c.Scheme) {
		errs = append(errs, fmt.Errorf("scheme %q is none of %s", c.Scheme, strings.Join(Schemes, ", ")))
	}
	if !slices.Contains(Methods, c.Method) {
		errs = append(errs, fmt.Errorf("method %q is none of %s", c.Method, strings.Join(Methods, ", ")))
	}
	if !(c.Keep > 0.5 && c.Keep <= 1) {
		errs = append(errs, fmt.Errorf("a share of %v is outside 0.5..1", c.Keep))
	}
	return errors.Join(errs...)
}

// NeedsData says whether values must be calibrated.
func (c Config) NeedsData() bool { return c.Scheme == "int8" || c.Scheme == "int16" }

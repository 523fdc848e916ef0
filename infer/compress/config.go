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
	// Method chooses ranges from what calibration saw: minmax, percentile, mse,
	// or auto, by which Shorten makes an int8 model by all three and keeps what
	// differs least from the float model on the calibration data. Otherwise auto
	// is minmax.
	Method string
	// Keep is the share of values that percentile covers.
	Keep float64
	// FloatIO keeps the model's inputs and outputs float32.
	FloatIO bool
	// Equalise lets Shorten even out the channels of neighbouring layers first
	// (arXiv:1906.04721).
	Equalise bool
	// CorrectBias says whether the mean error of rounded weights is taken out of
	// the biases: yes, no, or auto, which Shorten chooses as it does the method.
	// Otherwise auto is yes.
	CorrectBias string
	// Float are operators, by their place, that stay float though they need not.
	Float []int
	// Sparse lets Shorten store int8 weights of which most are 0, as in a pruned
	// model, in sparse rows, where the file has a fifth less by it.
	Sparse bool
}

// Schemes, Methods and, of CorrectBias, Choices are the values that Config takes.
var (
	Schemes = []string{"int8", "int16", "dynamic", "float16"}
	Methods = []string{"auto", "minmax", "percentile", "mse"}
	Choices = []string{"auto", "yes", "no"}
)

// DefaultConfig is full int8, in the way that calibration shows to be best.
func DefaultConfig() Config {
	return Config{Scheme: "int8", Method: "auto", Keep: 0.9999, CorrectBias: "auto"}
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
	if !slices.Contains(Choices, c.CorrectBias) {
		errs = append(errs, fmt.Errorf("correcting biases: %q is none of %s", c.CorrectBias, strings.Join(Choices, ", ")))
	}
	if !(c.Keep > 0.5 && c.Keep <= 1) {
		errs = append(errs, fmt.Errorf("a share of %v is outside 0.5..1", c.Keep))
	}
	if c.Sparse && c.Scheme != "int8" {
		errs = append(errs, fmt.Errorf("scheme %s: sparse rows are for weights of scheme int8", c.Scheme))
	}
	return errors.Join(errs...)
}

// NeedsData says whether values must be calibrated.
func (c Config) NeedsData() bool { return c.Scheme == "int8" || c.Scheme == "int16" }

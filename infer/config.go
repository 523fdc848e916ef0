package infer

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Config is what all models share.
type Config struct {
	Library    string `yaml:"library" desc:"the TensorFlow Lite library; default: the one in the program"`
	Workers    int    `yaml:"workers" desc:"warm interpreters a model; 0: as many as there are cores for their threads"`
	CheckEvery int    `yaml:"check_every" desc:"one frame in so many is run again on the CPU to check an accelerator; 0: none"`
	Delegate   string `yaml:"delegate" desc:"what computes models that do not say: auto, builtin[:THREADS] or xnnpack:FLAGS[:THREADS]"`
	Sysfs      string `yaml:"sysfs" desc:"where the kernel lists the devices"`
}

// DefaultConfig is what holds without a configuration.
func DefaultConfig() Config {
	return Config{CheckEvery: 500, Delegate: "auto", Sysfs: "/sys"}
}

// Validate says what is wrong with c, each error with its YAML path in front.
func (c Config) Validate() error {
	var errs []error
	if c.Workers < 0 || c.Workers > 256 {
		errs = append(errs, fmt.Errorf("workers: %d is outside 0..256", c.Workers))
	}
	if c.CheckEvery < 0 {
		errs = append(errs, fmt.Errorf("check_every: %d is negative", c.CheckEvery))
	}
	if c.Delegate == "external" {
		errs = append(errs, errors.New("delegate: external is set for each model, with its library"))
	} else if err := checkDelegate(c.Delegate); err != nil {
		errs = append(errs, fmt.Errorf("delegate: %w", err))
	}
	return errors.Join(errs...)
}

// External is a delegate in a shared library, such as Coral's libedgetpu.
type External struct {
	Library string            `yaml:"library" desc:"the delegate's shared library; default: Coral's libedgetpu.so.1"`
	Options map[string]string `yaml:"options" desc:"its options, by name"`
}

// ModelConfig is one model by name.
type ModelConfig struct {
	File        string   `yaml:"file" desc:"the .tflite file, or a packed one; may be left out where a version of the model is live in the store"`
	Accelerated string   `yaml:"accelerated" desc:"the same model compiled for the accelerator; default: for FILE.tflite FILE_edgetpu.tflite beside it"`
	Delegate    string   `yaml:"delegate" desc:"auto, builtin[:THREADS], xnnpack:FLAGS[:THREADS] or external; default: infer.delegate"`
	External    External `yaml:"external" desc:"a delegate from a shared library"`
	// Output is what the output tensors mean.
	Output    string   `yaml:"output" enum:"auto,classes,blazeface,detection,regression,reconstruction,raw" desc:"what the model's outputs mean"`
	Labels    string   `yaml:"labels" desc:"file with a label a line; default: those packed in the model"`
	Classes   []string `yaml:"label_list" desc:"labels by index, in place of a file"`
	Threshold *float64 `yaml:"threshold" desc:"the least score that is reported"`
	Top       int      `yaml:"top" desc:"how many classes are reported; default 5"`

	Version string        `yaml:"-"` // that results name; "": the model has no versions
	Picture *PictureInput `yaml:"-"` // what its bundle says of pictures; nil: nothing
}

// PictureInput is how a picture becomes a model's input, as whoever made the
// model says it; what is empty he does not say.
type PictureInput struct {
	Fit      string    // stretch, letterbox or crop
	Channels string    // rgb or bgr
	Mean     []float64 // taken from each channel, 0..255; one for all, or one each
	Std      []float64 // what each is divided by then
}

// fits says whether it can be done to a model's first input.
func (p *PictureInput) fits(ins []TensorInfo) error {
	if p == nil || len(ins) == 0 {
		return nil
	}
	for name, list := range map[string][]float64{"mean": p.Mean, "std": p.Std} {
		if n := len(list); n > 1 && n != 3 {
			return fmt.Errorf("its bundle gives %d numbers as the %s of pictures; it is one, or three", n, name)
		}
	}
	if len(p.Mean)+len(p.Std) > 0 && ins[0].Type != Float32 && ins[0].Scale == 0 {
		return errors.New("its bundle gives a mean or std of pictures, and its input has no quantization scale")
	}
	return nil
}

// UnmarshalYAML decodes c over its defaults.
func (c *ModelConfig) UnmarshalYAML(decode func(any) error) error {
	type plain ModelConfig
	p := plain{Output: "auto", Top: 5}
	if err := decode(&p); err != nil {
		return err
	}
	*c = ModelConfig(p)
	return nil
}

// Validate says what is wrong with c, each error with its YAML path in front.
// Whether there is a file is for whoever knows the store.
func (c ModelConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := checkDelegate(c.Delegate); err != nil {
		bad("delegate: %w", err)
	}
	if c.Output != "" && !slices.Contains(outputKinds, c.Output) {
		bad("output: %q is none of %s", c.Output, strings.Join(outputKinds, ", "))
	}
	if c.Labels != "" && len(c.Classes) > 0 {
		bad("label_list: labels names a file already")
	}
	if t := c.Threshold; t != nil && (math.IsNaN(*t) || math.IsInf(*t, 0)) {
		bad("threshold: %v is no number", *t)
	}
	if c.Top < 0 {
		bad("top: %d is negative", c.Top)
	}
	return errors.Join(errs...)
}

// checkDelegate says whether s names a delegate; "" leaves it to the default.
func checkDelegate(s string) error {
	if s == "" || s == "auto" {
		return nil
	}
	_, err := parseDelegate(s)
	return err
}

package pipeline

import (
	"errors"
	"fmt"
	"strings"

	"edgegateway/infer"
	"edgegateway/sensors"
)

// Fits says whether the stream can ever fill a model with these inputs, one
// at least: an error where the configuration alone shows that it cannot, so that every
// message would be dropped. How many numbers come is often known with the
// messages only; then there is none. c was validated.
func (c Config) Fits(in []infer.TensorInfo) error {
	t := in[0]
	shape := strings.ReplaceAll(strings.Trim(fmt.Sprint(t.Shape), "[]"), " ", "x") + " " + t.Type.String()
	_, notPicture := target([]infer.Tensor{{Type: t.Type, Shape: t.Shape}})
	if notPicture == nil && t.Shape[3] != 1 && t.Shape[3] != 3 {
		notPicture = errors.New("a picture has 1 or 3 channels")
	}
	if c.Input.Image != "" {
		switch {
		case notPicture != nil:
			return fmt.Errorf("model: %q takes %s and no pictures, which are 1xHEIGHTxWIDTHx3 or x1; give it a stream of numbers, or name a model of pictures", c.Model, shape)
		case t.Type != infer.Float32 && t.Scale == 0 && len(c.Picture.Mean)+len(c.Picture.Std) > 0:
			return fmt.Errorf("picture: the input of %q, %s, has no quantization scale: leave mean and std out", c.Model, shape)
		}
		return nil
	}
	wanted := count(t.Shape)
	given, fits, err := c.numbers(wanted)
	if err != nil {
		return err
	}
	if fits {
		for name, list := range map[string][]float64{"mean": c.Normalise.Mean, "std": c.Normalise.Std} {
			if n := len(list); n > 0 && wanted%n != 0 {
				return fmt.Errorf("normalise.%s: %d numbers do not go into the %d that %q takes: give one, or one for each value", name, n, wanted, c.Model)
			}
		}
		return nil
	}
	hint := ""
	if notPicture == nil {
		hint = "; a model of pictures takes a stream with input: {image: auto}"
	} else if n := c.readings(wanted); n > 1 {
		hint = fmt.Sprintf("; window: {size: %d} fits", n)
	}
	numbers := "numbers"
	if wanted == 1 {
		numbers = "number"
	}
	return fmt.Errorf("model: %q takes %d %s (%s), %s%s", c.Model, wanted, numbers, shape, given, hint)
}

// FitsInstead says whether the stream fills a model with the inputs next as it
// fills the one with the inputs now, whose place that is to take. Pictures are
// decoded to whatever size a model takes; of numbers there must be as many.
func (c Config) FitsInstead(now, next []infer.TensorInfo) error {
	if err := c.Fits(next); err != nil || c.Input.Image != "" {
		return err
	}
	if n, m := count(now[0].Shape), count(next[0].Shape); n != m {
		return fmt.Errorf("model: it takes %d numbers, the version at work takes %d", m, n)
	}
	if c.Input.Raw == "tensor" && now[0].Type != next[0].Type {
		return fmt.Errorf("model: it takes %v, and the stream hands on bytes as they stand, of %v", next[0].Type, now[0].Type)
	}
	return nil
}

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// numbers tells how many numbers a message, a window or its features give to
// a model, and whether these can be as many as it wants.
func (c Config) numbers(wanted int) (given string, fits bool, err error) {
	d, err := sensors.NewDecoder(c.Input)
	if err != nil {
		return "", false, prefix("input", err)
	}
	values := d.Names()
	switch {
	case len(c.Features) > 0:
		_, names, err := c.features(values)
		return fmt.Sprintf("the features of a window are %d", len(names)), len(names) == wanted, err
	case len(values) == 0:
		return "", true, nil
	case c.Window != nil:
		n := c.Window.Count()
		return fmt.Sprintf("a window of size %d gives %d", n, n*len(values)), n == 0 || n*len(values) == wanted, nil
	case len(c.Input.Channels) > 0:
		return fmt.Sprintf("a message gives whole readings of %d", len(values)), wanted%len(values) == 0, nil
	}
	return fmt.Sprintf("a message gives %d", len(values)), len(values) == wanted, nil
}

// readings is how many of them make as many numbers, 0 where none do.
func (c Config) readings(wanted int) int {
	d, err := sensors.NewDecoder(c.Input)
	if err != nil || len(c.Features) > 0 || len(d.Names()) == 0 || wanted%len(d.Names()) != 0 {
		return 0
	}
	return wanted / len(d.Names())
}

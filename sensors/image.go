package sensors

import (
	"errors"
	"fmt"
	"slices"
)

// ImageConfig says how a picture is fitted into a model's input.
type ImageConfig struct {
	Fit       string    `yaml:"fit" enum:"stretch,letterbox,crop" desc:"stretch fills the input, letterbox keeps the shape with black bars, crop keeps it and loses the edges"`
	Filter    string    `yaml:"filter" enum:"bilinear,nearest" desc:"how pixels are interpolated"`
	Channels  string    `yaml:"channels" enum:"rgb,bgr" desc:"order of the colours"`
	Mean      []float64 `yaml:"mean" desc:"what is taken from each channel (0..255), in the order of channels; one for all or one each"`
	Std       []float64 `yaml:"std" desc:"what each channel is divided by then"`
	MaxPixels int       `yaml:"max_pixels" desc:"a picture whose header claims more, width times height, is refused before it is decoded"`
	JPEG      string    `yaml:"jpeg" enum:"auto,go" desc:"auto lets libturbojpeg, where it is installed, decode pictures much larger than the input; go never does"`
}

// DefaultImageConfig keeps the shape and gives floats in -1..1.
func DefaultImageConfig() ImageConfig {
	return ImageConfig{Fit: "letterbox", Filter: "bilinear", Channels: "rgb", MaxPixels: 25_000_000, JPEG: "auto"}
}

// UnmarshalYAML gives it its defaults.
func (c *ImageConfig) UnmarshalYAML(decode func(any) error) error {
	type plain ImageConfig
	p := plain(DefaultImageConfig())
	if err := decode(&p); err != nil {
		return err
	}
	*c = ImageConfig(p)
	return nil
}

// Validate checks names and numbers.
func (c ImageConfig) Validate() error {
	var errs []error
	one := func(field, value string, of ...string) {
		if !slices.Contains(of, value) {
			errs = append(errs, fmt.Errorf("%s: %q is none of %q", field, value, of))
		}
	}
	one("fit", c.Fit, "stretch", "letterbox", "crop")
	one("filter", c.Filter, "bilinear", "nearest")
	one("channels", c.Channels, "rgb", "bgr")
	one("jpeg", c.JPEG, "auto", "go")
	if c.MaxPixels < 1 {
		errs = append(errs, fmt.Errorf("max_pixels: %d is not positive", c.MaxPixels))
	}
	for i, v := range c.Std {
		if v == 0 || v-v != 0 {
			errs = append(errs, fmt.Errorf("std[%d]: %v cannot divide", i, v))
		}
	}
	for i, v := range c.Mean {
		if v-v != 0 {
			errs = append(errs, fmt.Errorf("mean[%d]: %v is no number", i, v))
		}
	}
	for field, v := range map[string][]float64{"mean": c.Mean, "std": c.Std} {
		if n := len(v); n != 0 && n != 1 && n != 3 {
			errs = append(errs, fmt.Errorf("%s: %d numbers; one for all channels or three", field, n))
		}
	}
	return errors.Join(errs...)
}

// ElemType is the type of a model's input.
type ElemType uint8

// The types a picture can be written as.
const (
	Float32 ElemType = iota
	Int8
	Uint8
)

// Target is a model's input of shape [1, H, W, C] in its own memory; real =
// Scale * (q - ZeroPoint) for the quantized types.
type Target struct {
	W, H, C   int
	Type      ElemType
	Scale     float32
	ZeroPoint int32
	Data      []byte
}

// check refuses an input that a picture cannot be written to.
func (t Target) check(cfg ImageConfig) error {
	elem := 1
	if t.Type == Float32 {
		elem = 4
	}
	if t.C != 1 && t.C != 3 {
		return fmt.Errorf("the model's input has %d channels, a picture has 1 or 3", t.C)
	}
	if t.W < 1 || t.H < 1 || len(t.Data) != t.W*t.H*t.C*elem {
		return fmt.Errorf("the model's input of %d bytes is not %d x %d x %d", len(t.Data), t.W, t.H, t.C)
	}
	if t.Type != Float32 && t.Scale == 0 && (len(cfg.Mean) > 0 || len(cfg.Std) > 0) {
		return fmt.Errorf("the model's input has no quantization scale: leave mean and std out")
	}
	return nil
}

// Placement is where a picture lies in the model's input.
type Placement struct {
	x0, y0, w, h float64 // of the whole picture, in fractions of the input
}

// ToPicture turns fractions of the model's input into fractions of the
// picture; outside the picture they are below 0 or above 1.
func (p Placement) ToPicture(x, y float64) (float64, float64) {
	if p.w == 0 || p.h == 0 {
		return x, y
	}
	return (x - p.x0) / p.w, (y - p.y0) / p.h
}

// place computes where the whole picture of w x h pixels lies in the input.
func place(w, h int, fit string, dst Target) Placement {
	sx, sy := float64(dst.W)/float64(w), float64(dst.H)/float64(h)
	switch fit {
	case "letterbox":
		sx = min(sx, sy)
		sy = sx
	case "crop":
		sx = max(sx, sy)
		sy = sx
	}
	pw, ph := sx*float64(w)/float64(dst.W), sy*float64(h)/float64(dst.H)
	return Placement{x0: (1 - pw) / 2, y0: (1 - ph) / 2, w: pw, h: ph}
}

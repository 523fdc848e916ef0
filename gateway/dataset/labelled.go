package dataset

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"edgegateway/infer/train"
	"edgegateway/sensors"
)

// Labelled is the samples of a set that a model of known form learns from: in
// the order in which they were recorded, and those that do not fit left out one
// by one. So the first n of them are the same whatever comes behind, unlike in
// Load, which decides by all of a set. All of it is plain data.
type Labelled struct {
	Dir       string
	Input     train.Shape // of a sample: [values], or [height, width, channels] of pictures
	Classes   []string    // names of classes in the model's order, or
	Values    int         // 1: labels are numbers; as many as Input has, and more than one: the inputs themselves are learned
	Picture   sensors.ImageConfig
	Normalise sensors.NormaliseConfig // as the stream does before its model
}

// Check says what cannot be learned from a recorded set.
func (l *Labelled) Check() error {
	size := l.Input.Size()
	switch {
	case size < 1:
		return fmt.Errorf("a sample of shape %v", []int(l.Input))
	case len(l.Classes) > 0 && l.Values > 0, len(l.Classes) == 0 && l.Values < 1:
		return errors.New("a model learns classes or values")
	case l.Values > 1 && l.Values != size:
		return fmt.Errorf("a recorded sample has one label, or is learned itself: it is no target of %d values for %d inputs", l.Values, size)
	case len(l.Input) == 3 && l.itself():
		return errors.New("pictures are not learned themselves")
	case len(l.Picture.Mean) > 0 || len(l.Picture.Std) > 0:
		return errors.New("pictures are learned as bytes, and the stream has mean and std for its model")
	}
	return nil
}

func (l *Labelled) pictures() bool { return len(l.Input) == 3 }

// itself says whether the inputs are what is learned.
func (l *Labelled) itself() bool { return l.Values > 1 }

// fits says whether a sample is one of those; target is its class or value.
func (l *Labelled) fits(h Header, label string, width int) (target float64, ok bool) {
	if h.Pictures != l.pictures() || !h.Pictures && width != l.Input.Size() {
		return 0, false
	}
	switch {
	case len(l.Classes) > 0:
		k := slices.Index(l.Classes, label)
		return float64(k), k >= 0
	case l.itself():
		return 0, true
	}
	v, err := strconv.ParseFloat(label, 32)
	return v, err == nil && v-v == 0
}

// misfit says why a sample is none of those.
func (l *Labelled) misfit(h Header, label string, width int) string {
	switch size := l.Input.Size(); {
	case h.Pictures != l.pictures() && h.Pictures:
		return "it is a picture"
	case h.Pictures != l.pictures():
		return "it is no picture"
	case !h.Pictures && width != size:
		return fmt.Sprintf("it has %d values, and not %d", width, size)
	case label == "":
		return "it has no label"
	case len(l.Classes) > 0:
		return fmt.Sprintf("its label %q is none of the classes", label)
	}
	return fmt.Sprintf("its label %q is no number", label)
}

// errEnough ends the reading of a set.
var errEnough = errors.New("enough")

// Load gives the first n samples. Pictures are decoded as the gateway decodes
// them for a model of that input. Fewer than n is an error: the oldest may have
// left since they were counted.
func (l *Labelled) Load(ctx context.Context, n int) (*train.Dataset, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	d := &train.Dataset{Name: l.Dir, Shape: l.Input, Classes: l.Classes, Width: l.Values}
	decoder := sensors.NewImageDecoder()
	sources := map[string]int32{}
	row := make([]float64, l.Input.Size())
	_, err := scan(l.Dir, func(h Header, s line, folder string) error {
		if d.Len() >= n {
			return errEnough
		}
		target, ok := l.fits(h, s.Label, len(s.Values))
		if !ok {
			return ctx.Err()
		}
		if h.Pictures {
			file, err := readPicture(folder, s)
			if err != nil {
				return err // torn ones are passed over
			}
			at := len(d.Pixels)
			d.Pixels = append(d.Pixels, make([]byte, l.Input.Size())...)
			if decode(decoder, file, l.Picture, l.Input, d.Pixels[at:]) != nil {
				d.Pixels = d.Pixels[:at] // the stream's picture settings were others
				return ctx.Err()
			}
		} else {
			copy(row, s.Values)
			if err := l.Normalise.Apply(row); err != nil {
				return err
			}
			for _, v := range row {
				d.Values = append(d.Values, float32(v))
			}
		}
		switch {
		case len(l.Classes) > 0:
			d.Labels = append(d.Labels, int32(target))
		case l.itself():
			d.Targets = append(d.Targets, d.Values[len(d.Values)-l.Values:]...)
		default:
			d.Targets = append(d.Targets, float32(target))
		}
		d.Times = append(d.Times, s.Time)
		if !s.Begin.IsZero() {
			k, ok := sources[s.Source]
			if !ok {
				k = int32(len(sources))
				sources[s.Source] = k
			}
			d.Spans = append(d.Spans, train.Span{Source: k, From: s.Begin.UnixNano(), To: s.Time.UnixNano()})
		}
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if d.Len() < n {
		return nil, fmt.Errorf("%s holds %d samples that fit, not %d any more", l.Dir, d.Len(), n)
	}
	if len(d.Spans) != len(d.Times) {
		d.Spans = nil // some are from before the stream had a window
	}
	return d, d.Check()
}

// Same says whether both mean the same samples.
func (l *Labelled) Same(o *Labelled) bool { return reflect.DeepEqual(l, o) }

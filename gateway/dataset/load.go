package dataset

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"edgegateway/infer/train"
	"edgegateway/sensors"
)

// LoadConfig says what is made of a set.
type LoadConfig struct {
	Picture sensors.ImageConfig // how pictures are fitted, as the stream that will run the model has it
	Shape   train.Shape         // [height, width, channels] of pictures
	// Regression takes labels as numbers. Without it a label is the name of a
	// class.
	Regression bool
	Step       Step
}

// Load gives a set as the trainer takes it. Pictures are decoded as the gateway
// decodes them for a model of that input. Samples without a label are left out,
// unless none has one: then the targets are the inputs, as an autoencoder
// learns them; pictures have no targets then. Samples of another form than
// most, or of an earlier configuration, are left out too. What was left out is
// said in notes.
func Load(dir string, cfg LoadConfig) (d *train.Dataset, notes []string, err error) {
	info, err := Look(dir)
	if err != nil {
		return nil, nil, err
	}
	l := loader{cfg: cfg, left: map[string]int{}, sources: map[string]int32{}}
	l.d = &train.Dataset{Name: dir}
	var last Header
	lengths := map[int]int{}
	_, err = scan(dir, func(h Header, s line, _ string) error {
		if !h.equal(last) {
			clear(lengths)
		}
		last = h
		lengths[len(s.Values)]++
		l.labelled = l.labelled || s.Label != ""
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for n, count := range lengths {
		if count > lengths[l.width] || count == lengths[l.width] && n > l.width {
			l.width = n
		}
	}
	l.header = last
	if err := l.begin(info); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", dir, err)
	}
	damaged, err := Each(dir, l.take)
	if err != nil {
		return nil, nil, err
	}
	l.left["torn or damaged"] = damaged
	for why, n := range l.left {
		if n > 0 {
			notes = append(notes, fmt.Sprintf("%d of %d samples left out: %s", n, info.Samples+info.Damaged, why))
		}
	}
	slices.Sort(notes)
	if len(l.d.Spans) != len(l.d.Times) {
		l.d.Spans = nil // some are from before the stream had a window
	}
	if len(l.d.Pixels) == 0 && len(l.d.Values) == 0 {
		return nil, notes, fmt.Errorf("%s: no sample is left: %s", dir, strings.Join(notes, "; "))
	}
	return l.d, notes, l.d.Check()
}

// loader collects the samples of one form.
type loader struct {
	cfg      LoadConfig
	d        *train.Dataset
	header   Header
	width    int // values a sample
	labelled bool
	decoder  *sensors.ImageDecoder
	left     map[string]int
	done     int
	sources  map[string]int32 // numbered as they come
}

// begin decides shape, names and classes.
func (l *loader) begin(info Info) error {
	d := l.d
	if l.labelled && !l.cfg.Regression {
		for _, c := range info.Classes {
			if c.Label != "" {
				d.Classes = append(d.Classes, c.Label)
			}
		}
	}
	if l.header.Pictures {
		s := l.cfg.Shape
		if len(s) != 3 || s[0] < 1 || s[1] < 1 || s[2] != 1 && s[2] != 3 {
			return fmt.Errorf("holds pictures; their shape as the model takes them is [height, width, 1 or 3], not %v", s)
		}
		d.Shape, l.decoder = s, sensors.NewImageDecoder()
		return nil
	}
	if l.width == 0 {
		if info.Damaged > 0 {
			return fmt.Errorf("none of its samples is whole: %d are torn or damaged", info.Damaged)
		}
		return fmt.Errorf("its samples hold no values")
	}
	d.Shape = train.Shape{l.width}
	names := l.header.Features
	if l.header.Readings && len(names) > 0 {
		d.Row = len(names)
		for k := range l.width {
			d.Features = append(d.Features, fmt.Sprintf("%s[%d]", names[k%d.Row], k/d.Row-l.width/d.Row+1))
		}
	} else if len(names) == l.width {
		d.Features = slices.Clone(names)
	}
	if l.cfg.Regression {
		d.Width = 1
	} else if !l.labelled {
		d.Width = l.width
	}
	return nil
}

func (l *loader) take(h Header, s Sample) error {
	d := l.d
	if l.done++; l.cfg.Step != nil {
		if err := l.cfg.Step(l.done); err != nil {
			return err
		}
	}
	target := 0.0
	switch {
	case !h.equal(l.header):
		l.left["recorded with other features than the newest"]++
		return nil
	case !h.Pictures && len(s.Values) != l.width:
		l.left[fmt.Sprintf("another number of values than %d", l.width)]++
		return nil
	case s.Label == "" && (l.labelled || l.cfg.Regression):
		l.left["without a label"]++
		return nil
	case l.cfg.Regression:
		var err error
		if target, err = strconv.ParseFloat(s.Label, 32); err != nil || target-target != 0 {
			l.left["a label that is no number"]++
			return nil
		}
	}
	if h.Pictures {
		at := len(d.Pixels)
		size := d.Shape[0] * d.Shape[1] * d.Shape[2]
		d.Pixels = append(d.Pixels, make([]byte, size)...)
		if err := decode(l.decoder, s.Picture, l.cfg.Picture, d.Shape, d.Pixels[at:]); err != nil {
			d.Pixels = d.Pixels[:at]
			l.left[err.Error()]++
			return nil
		}
	} else {
		for _, v := range s.Values {
			d.Values = append(d.Values, float32(v))
		}
	}
	switch {
	case l.cfg.Regression:
		d.Targets = append(d.Targets, float32(target))
	case l.labelled:
		d.Labels = append(d.Labels, int32(slices.Index(d.Classes, s.Label)))
	case !h.Pictures:
		d.Targets = append(d.Targets, d.Values[len(d.Values)-l.width:]...)
	}
	d.Times = append(d.Times, s.Time)
	if !s.Begin.IsZero() {
		n, ok := l.sources[s.Source]
		if !ok {
			n = int32(len(l.sources))
			l.sources[s.Source] = n
		}
		d.Spans = append(d.Spans, train.Span{Source: n, From: s.Begin.UnixNano(), To: s.Time.UnixNano()})
	}
	return nil
}

// Decoder gives the function that train.LoadFolder takes: pictures as the
// gateway decodes them.
func Decoder(cfg sensors.ImageConfig, shape train.Shape) func(file, pixels []byte) error {
	d := sensors.NewImageDecoder()
	return func(file, pixels []byte) error { return decode(d, file, cfg, shape, pixels) }
}

// decode writes bytes as an input without a scale takes them: a network sees
// byte/127.5 - 1, which is what a float model is given without mean and std.
func decode(d *sensors.ImageDecoder, file []byte, cfg sensors.ImageConfig, shape train.Shape, pixels []byte) error {
	if len(cfg.Mean) > 0 || len(cfg.Std) > 0 {
		return fmt.Errorf("pictures are learned as bytes: leave mean and std out")
	}
	_, err := d.Into(file, cfg, sensors.Target{W: shape[1], H: shape[0], C: shape[2], Type: sensors.Uint8, Data: pixels})
	return err
}

// compareLabels puts numbers in their order and other text behind, after the
// alphabet.
func compareLabels(a, b string) int {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	switch {
	case errX == nil && errY == nil && x < y:
		return -1
	case errX == nil && errY == nil && x > y:
		return 1
	case errX == nil && errY != nil:
		return -1
	case errX != nil && errY == nil:
		return 1
	}
	return strings.Compare(a, b)
}

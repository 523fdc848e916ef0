package pipeline

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"edgegateway/broker"
	"edgegateway/sensors"
)

// Recorder keeps samples of the streams that say so. input is what the model
// takes, before it is normalised, and empty where the result has a picture. It
// is called by many workers at once, for one source in order; r and input are
// valid until it returns, and it does not wait for the disk.
type Recorder interface {
	Record(r *Result, input []float64)
}

// RecordConfig says which samples of a stream are kept, for training.
type RecordConfig struct {
	Every      string       `yaml:"every" desc:"which samples of a source are kept: every n-th (10), or one in a time (10s)"`
	MaxSamples int          `yaml:"max_samples" desc:"samples that are kept; the oldest leave first"`
	MaxBytes   int64        `yaml:"max_bytes" desc:"bytes that they may take on the disk; the oldest leave first"`
	Label      *LabelConfig `yaml:"label" desc:"what labels a sample; without it only a command does, and samples without a label are kept too"`
}

// LabelConfig says what labels a sample. A label that a command set is before
// one from a topic, and that before the rule's.
type LabelConfig struct {
	Topic      string        `yaml:"topic" desc:"MQTT filter whose last message is the label; what its wildcards match is the source that it is for"`
	Path       string        `yaml:"path" desc:"JSON path of the label in that message; the message as text where it is empty"`
	For        time.Duration `yaml:"for" desc:"how long a label of the topic or of a command holds; 0 for until the next"`
	Rule       string        `yaml:"rule" desc:"expression over the result that gives the label, an empty text for none: score > 0.9 ? label : \"\""`
	Unlabelled bool          `yaml:"unlabelled" desc:"keep samples without a label too"`
}

// UnmarshalYAML gives it its defaults.
func (c *RecordConfig) UnmarshalYAML(decode func(any) error) error {
	type plain RecordConfig
	p := plain{Every: "1", MaxSamples: 10_000, MaxBytes: 256 << 20}
	if err := decode(&p); err != nil {
		return err
	}
	*c = RecordConfig(p)
	return nil
}

// Validate checks all but the rule, which needs the stream's fields.
func (c RecordConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := parseEvery(c.Every); err != nil {
		bad("every: %w", err)
	}
	if c.MaxSamples < 1 || c.MaxSamples > 10_000_000 {
		bad("max_samples: %d is not in 1..10000000", c.MaxSamples)
	}
	if c.MaxBytes < 1<<16 || c.MaxBytes > 1<<40 {
		bad("max_bytes: %d is not in 65536..1099511627776", c.MaxBytes)
	}
	l := c.Label
	if l == nil {
		return errors.Join(errs...)
	}
	if l.Topic != "" {
		if err := broker.ValidFilter(l.Topic); err != nil {
			bad("label.topic: %w", err)
		}
	}
	if l.Path != "" {
		if _, err := sensors.NewNamePath(l.Path); err != nil {
			bad("label.path: %w", err)
		}
		if l.Topic == "" {
			bad("label.path: is of the messages of a topic, and none is given")
		}
	}
	if l.For < 0 {
		bad("label.for: %v is negative", l.For)
	}
	return errors.Join(errs...)
}

// record checks what a stream keeps against what it has.
func (c Config) record() (errs []error) {
	if c.Record == nil {
		return nil
	}
	if err := c.Record.Validate(); err != nil {
		errs = append(errs, prefix("record", err))
	}
	if c.Input.Raw == "tensor" {
		errs = append(errs, errors.New("record: bytes that go into the model as they stand have no numbers to keep; give their form, for example raw: f32le"))
	}
	if l := c.Record.Label; l != nil && l.Rule != "" {
		if names, err := c.Fields(); err == nil {
			if _, err := Text(l.Rule, Fields{Features: names, Model: c.Model != ""}); err != nil {
				errs = append(errs, fmt.Errorf("record.label.rule: %w", err))
			}
		}
	}
	return errs
}

// Inputs are the names of the numbers that the model takes: of the features,
// or of the values of one reading, of which a window without features holds
// many. They are nil for pictures and where the payload does not say.
func (c Config) Inputs() (names []string, readings bool, err error) {
	d, err := sensors.NewDecoder(c.Input)
	if err != nil {
		return nil, false, prefix("input", err)
	}
	if len(c.Features) > 0 {
		_, names, err = c.features(d.Names())
		return names, false, err
	}
	return d.Names(), c.Window != nil, nil
}

// every is which samples of a source are kept: each n-th, or one in a time.
type every struct {
	n    uint64
	time time.Duration
}

func parseEvery(s string) (every, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil && n > 0 {
		return every{n: n}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return every{time: d}, nil
	}
	return every{}, fmt.Errorf("%q is neither a number of samples (10) nor a time (10s)", s)
}

// beat counts a source's samples, of which every so manieth is due.
type beat struct {
	seen uint64    // samples since the first
	last time.Time // when the last one was due, where it goes by time
}

// due says whether this sample is one of those.
func (b *beat) due(e every, now time.Time) bool {
	if e.n > 0 {
		b.seen++
		return (b.seen-1)%e.n == 0
	}
	if !b.last.IsZero() && now.Sub(b.last) < e.time && !now.Before(b.last) {
		return false
	}
	b.last = now
	return true
}

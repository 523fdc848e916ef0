package pipeline

import (
	"errors"
	"fmt"
	"time"

	"edgegateway/infer/drift"
)

// DriftConfig says how a stream is watched for data that is no longer of the
// kind that its model was made for.
type DriftConfig struct {
	Reference   string  `yaml:"reference" desc:"file of edgegateway model reference; without it what is in the model's bundle, else the stream's first samples are learned"`
	Learn       int     `yaml:"learn" desc:"samples that are learned where there is no reference; 0 for 16 windows"`
	Window      int     `yaml:"window" desc:"samples that are judged together: long enough to hold all that belongs to an ordinary day, or shift"`
	Every       string  `yaml:"every" desc:"which samples of a source are looked at: every n-th (10), or one in a time (10s)"`
	FalseAlarms float64 `yaml:"false_alarms" desc:"chance that unchanged data is said to drift while one window passes"`
	Keep        int     `yaml:"keep" desc:"samples of each window that are kept for labelling, the most uncertain and the most unusual; 0 for none"`
	MaxSamples  int     `yaml:"max_samples" desc:"samples that are kept in all; the oldest leave first"`
	MaxBytes    int64   `yaml:"max_bytes" desc:"bytes that they may take on the disk; the oldest leave first"`
}

// UnmarshalYAML gives it its defaults.
func (c *DriftConfig) UnmarshalYAML(decode func(any) error) error {
	type plain DriftConfig
	p := plain{Window: 512, Every: "1", FalseAlarms: 0.001, Keep: 8, MaxSamples: 1000, MaxBytes: 64 << 20}
	if err := decode(&p); err != nil {
		return err
	}
	*c = DriftConfig(p)
	return nil
}

// maxLearned bounds what is kept in memory while a stream is learned from.
const maxLearned = 1 << 17

// Validate checks it.
func (c DriftConfig) Validate() error {
	errs := []error{drift.Config{Window: c.Window, FalseAlarms: c.FalseAlarms}.Validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := parseEvery(c.Every); err != nil {
		bad("every: %w", err)
	}
	if c.Learn < 0 || c.Learn > maxLearned || c.Learn > 0 && c.Learn < 4*c.Window {
		bad("learn: %d is not between 4 windows (%d) and %d, nor 0 for 16 windows", c.Learn, 4*c.Window, maxLearned)
	} else if c.learn() > maxLearned {
		bad("window: 16 windows of %d are learned, over %d; look at fewer samples (every), or give learn or a reference", c.Window, maxLearned)
	}
	if c.Keep < 0 || c.Keep > 64 {
		bad("keep: %d is not in 0..64", c.Keep)
	}
	if c.MaxSamples < 1 || c.MaxSamples > 10_000_000 {
		bad("max_samples: %d is not in 1..10000000", c.MaxSamples)
	}
	if c.MaxBytes < 1<<16 || c.MaxBytes > 1<<40 {
		bad("max_bytes: %d is not in 65536..1099511627776", c.MaxBytes)
	}
	return errors.Join(errs...)
}

func (c DriftConfig) learn() int {
	if c.Learn > 0 {
		return c.Learn
	}
	return 16 * c.Window
}

// drifts checks it against what the stream has.
func (c Config) drifts() (errs []error) {
	if c.Drift == nil {
		return nil
	}
	if err := c.Drift.Validate(); err != nil {
		errs = append(errs, prefix("drift", err))
	}
	if c.Model == "" && c.Input.Image != "" {
		errs = append(errs, errors.New("drift: pictures are looked at as the model takes them, and the stream has none"))
	}
	return errs
}

// ReviewSet is the data set of the samples that a stream's drift keeps for
// labelling.
func ReviewSet(stream string) string { return stream + ".review" }

// Reviews says whether the stream keeps samples for labelling.
func (c Config) Reviews() bool {
	return c.Drift != nil && c.Drift.Keep > 0 && c.Input.Raw != "tensor"
}

// Watcher is what the drift of streams needs of later rooms. It is called by
// one goroutine a stream, never by its workers.
type Watcher interface {
	// Bundled gives the reference that a version of a model brought, the live one
	// where version is empty; nil for none.
	Bundled(model, version string) (*drift.Reference, error)
	// Learned gives what Keep kept of a stream, nil for nothing.
	Learned(stream string) (*drift.Reference, error)
	Keep(stream string, r *drift.Reference) error
	// Drift tells how a stream stands, at its first judgement and when that
	// changes.
	Drift(stream string, raised bool, s DriftStatus)
}

// States of DriftStatus.
const (
	DriftLearns  = "learns"  // the first samples, until there is a reference
	DriftFills   = "fills"   // the first window
	DriftSteady  = "steady"  // the data is as the reference
	DriftRaised  = "drifts"  // it is not
	DriftStopped = "stopped" // samples do not fit the reference
)

// DriftStatus is how a stream's data stands against its reference.
type DriftStatus struct {
	State string `json:"state"`
	// Drift is the one number: over 1 the data drifts.
	Drift   float64 `json:"drift"`
	Feature string  `json:"feature,omitempty"` // that is farthest from the reference
	Text    string  `json:"text"`              // for people
	From    string  `json:"from,omitempty"`    // of the reference: file, bundle or stream
	Samples int     `json:"samples"`           // learned, or in the window
	Of      int     `json:"of"`                // that many
	Judged  uint64  `json:"judged"`            // how often
	// Blind are features of which windows of this size tell nothing.
	Blind []string `json:"blind,omitempty"`
	// Features are the farthest ones, at most 8.
	Features []drift.Seen `json:"features,omitempty"`
	Since    time.Time    `json:"since,omitzero"` // of the oldest sample in the window, about
	Time     time.Time    `json:"time,omitzero"`  // of the newest
}

package rollout

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Config says how a version that went live is watched, and when it is taken
// back for the one before it.
type Config struct {
	Watch    time.Duration `yaml:"watch" desc:"how long a version that went live is watched; 0: it is not"`
	After    int           `yaml:"after" desc:"inputs after which it is judged, again and again"`
	Failures float64       `yaml:"failures" desc:"taken back where a larger share of inputs than this, 0 to 1, fails that did not fail before"`
	Slower   float64       `yaml:"slower" desc:"taken back where its median time is so many times that of the version before; 0: whatever it is"`
	Accuracy float64       `yaml:"accuracy" desc:"taken back where its accuracy, of labels that arrive later, is by more than this below that of the version before; 0: whatever it is"`
	Millis   float64       `yaml:"p99_ms" desc:"taken back where its p99 in milliseconds is above this; 0: what its bundle says"`

	Preflight PreflightConfig `yaml:"preflight" desc:"how much a version is tried before it goes live"`

	Models map[string]Steps `yaml:"models" desc:"by model, the stages that a new version goes through before it is live"`
}

// DefaultConfig is what holds without a configuration.
func DefaultConfig() Config {
	return Config{Watch: 10 * time.Minute, After: 200, Failures: 0.02, Slower: 5, Accuracy: 0.05, Preflight: DefaultPreflight()}
}

// Validate says what is wrong with c, each error with its YAML path in front.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Watch < 0 {
		bad("watch: %v is negative", c.Watch)
	}
	if c.After < 10 {
		bad("after: %d inputs are too few to judge by; 10 at least", c.After)
	}
	if !(c.Failures >= 0 && c.Failures <= 1) {
		bad("failures: %v is not in 0..1", c.Failures)
	}
	if c.Slower != 0 && !(c.Slower >= 1.5 && c.Slower <= 1e6) {
		bad("slower: %v is neither 0 nor in 1.5..1000000", c.Slower)
	}
	if !(c.Millis >= 0 && c.Millis <= 1e9) {
		bad("p99_ms: %v is not in 0..1000000000", c.Millis)
	}
	if !(c.Accuracy >= 0 && c.Accuracy <= 1) {
		bad("accuracy: %v is not in 0..1", c.Accuracy)
	}
	for _, err := range parts(c.Preflight.Validate()) {
		bad("preflight.%w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Models)) {
		for _, err := range parts(c.Models[name].Validate()) {
			bad("models.%s.%w", name, err)
		}
	}
	return errors.Join(errs...)
}

// parts are the errors of a joined one.
func parts(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return nil
}

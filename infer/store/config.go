package store

import (
	"errors"
	"fmt"
	"slices"
)

// Config says what a store takes and how much it keeps.
type Config struct {
	Keep          int      `yaml:"keep" desc:"versions that are kept of a model; the live one and the one before it are never among those that go"`
	KeepBytes     int64    `yaml:"keep_bytes" desc:"bytes of all versions together"`
	Keys          []string `yaml:"keys" desc:"files with the public keys of those whose bundles are trusted"`
	RequireSigned bool     `yaml:"require_signed" desc:"refuse versions that none of the keys has signed"`
	Inbox         string   `yaml:"inbox" desc:"folder to drop bundles and .tflite files into; empty: none"`
}

// DefaultConfig is what holds without a configuration.
func DefaultConfig() Config { return Config{Keep: 5, KeepBytes: 1 << 30} }

// leastKept is what a swap needs: what was live, what is, what will be.
const leastKept = 3

// Validate says what is wrong with c, each error with its YAML path in front.
// The files of the keys are read by Open.
func (c Config) Validate() error {
	var errs []error
	if c.Keep < leastKept || c.Keep > maxVersions {
		errs = append(errs, fmt.Errorf("keep: %d is outside %d..%d: the live version, the one before it and a new one need room", c.Keep, leastKept, maxVersions))
	}
	if c.KeepBytes < 1 {
		errs = append(errs, fmt.Errorf("keep_bytes: %d leaves room for nothing", c.KeepBytes))
	}
	if slices.Contains(c.Keys, "") {
		errs = append(errs, errors.New("keys: one names no file"))
	}
	if c.RequireSigned && len(c.Keys) == 0 {
		errs = append(errs, errors.New("require_signed: needs keys, or every version is refused"))
	}
	return errors.Join(errs...)
}

package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// State is what is there, what is live and what is wanted.
type State struct {
	Models map[string]*ModelState `json:"models"`
}

// ModelState is one model's.
type ModelState struct {
	Live       string    `json:"live,omitempty"`       // the version that answers; "": the configuration's file, if any
	Previous   string    `json:"previous,omitempty"`   // the one before it
	Configured string    `json:"configured,omitempty"` // SHA-256 of the configuration's file when it was live last
	Minimum    string    `json:"minimum,omitempty"`    // no older version is taken
	Want       *Want     `json:"want,omitempty"`
	Versions   []Version `json:"versions"` // the oldest first
}

// Want is what somebody asked for and what is not done yet.
type Want struct {
	Version string    `json:"version"`
	Do      string    `json:"do"` // activate, rollout, rollback or withdraw
	Force   bool      `json:"force,omitempty"`
	By      string    `json:"by,omitempty"`
	Why     string    `json:"why,omitempty"` // of a program: what speaks for it; "" where somebody just says so
	At      time.Time `json:"at"`
}

// What can be wanted.
const (
	DoActivate = "activate" // pre-flight, then live
	DoRollout  = "rollout"  // pre-flight, then as the model's rollout says: shadow, canary, live
	DoRollback = "rollback" // back to the version before
	DoWithdraw = "withdraw" // end its shadow or canary
)

// Version is one version of a model.
type Version struct {
	Version   string    `json:"version"`
	Model     string    `json:"model"`               // SHA-256 of the .tflite
	Manifest  string    `json:"manifest"`            // SHA-256 of the manifest
	Signature string    `json:"signature,omitempty"` // SHA-256 of the file of the signature; "" without
	Bytes     int64     `json:"bytes"`               // of all its files
	Signed    string    `json:"signed,omitempty"`    // the trusted key that signed it; "" unsigned
	Added     time.Time `json:"added"`
	From      string    `json:"from,omitempty"` // where it came from
	Stage     Stage     `json:"stage"`
	Why       string    `json:"why,omitempty"`    // of its stage
	Broken    string    `json:"broken,omitempty"` // of the live one: why it does not answer, and what does; "": it does
	Report    string    `json:"report,omitempty"` // of its trial, a file in the store's folder reports
}

// FromConfiguration is where the versions 0, 0.1 ... come from.
const FromConfiguration = "configuration"

// Stage is how far a version has come.
type Stage string

// The stages. All but Live are said by Mark, Live by Activate.
const (
	Added     Stage = "added"
	Trying    Stage = "trying"
	Failed    Stage = "failed"
	Passed    Stage = "passed"
	Shadow    Stage = "shadow"
	Canary    Stage = "canary"
	Live      Stage = "live"
	Retired   Stage = "retired"
	Withdrawn Stage = "withdrawn"
)

var stages = []Stage{Added, Trying, Failed, Passed, Shadow, Canary, Live, Retired, Withdrawn}

// Find gives a version of a model; nil where it is not there, or m is nil.
func (m *ModelState) Find(version string) *Version {
	if m == nil {
		return nil
	}
	for i := range m.Versions {
		if m.Versions[i].Version == version {
			return &m.Versions[i]
		}
	}
	return nil
}

// clone is a copy that shares nothing.
func (s State) clone() State {
	c := State{Models: make(map[string]*ModelState, len(s.Models))}
	for name, m := range s.Models {
		n := *m
		n.Versions = slices.Clone(m.Versions)
		if m.Want != nil {
			w := *m.Want
			n.Want = &w
		}
		c.Models[name] = &n
	}
	return c
}

// Bounds of the state.
const (
	maxState    = 16 << 20 // bytes
	maxModels   = 1000
	maxVersions = 1000 // of one model
	maxWhy      = 2000 // bytes
	maxReport   = 1 << 20
)

// stateFile is the state as it lies on the disk.
type stateFile struct {
	Format int                    `json:"format"`
	Models map[string]*ModelState `json:"models"`
}

func (s State) encode() ([]byte, error) {
	text, err := json.MarshalIndent(stateFile{Format, s.Models}, "", " ")
	if err == nil && len(text) > maxState {
		err = fmt.Errorf("%w: the state would have %d bytes; remove versions", ErrTooLarge, len(text))
	}
	return append(text, '\n'), err
}

// parseState reads a state file and refuses one that says what cannot be.
func parseState(text []byte) (State, error) {
	var f stateFile
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return State{}, damaged("%v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return State{}, damaged("there is more behind it")
	}
	if f.Format != Format {
		return State{}, fmt.Errorf("its format is %d, this program knows %d", f.Format, Format)
	}
	if len(f.Models) > maxModels {
		return State{}, damaged("%d models are more than %d", len(f.Models), maxModels)
	}
	s := State{Models: map[string]*ModelState{}}
	for _, name := range slices.Sorted(maps.Keys(f.Models)) {
		m := f.Models[name]
		if m == nil {
			return State{}, damaged("model %q is nothing", name)
		}
		if err := m.check(name); err != nil {
			return State{}, damaged("model %q: %v", name, err)
		}
		s.Models[name] = m
	}
	return s, nil
}

func (m *ModelState) check(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if len(m.Versions) > maxVersions {
		return fmt.Errorf("%d versions are more than %d", len(m.Versions), maxVersions)
	}
	seen := map[string]bool{}
	for _, v := range m.Versions {
		switch {
		case CheckVersion(v.Version) != nil:
			return CheckVersion(v.Version)
		case seen[v.Version]:
			return fmt.Errorf("version %s is there twice", v.Version)
		case !isSum(v.Model) || !isSum(v.Manifest) || v.Signature != "" && !isSum(v.Signature):
			return fmt.Errorf("version %s: a hash is none", v.Version)
		case v.Bytes < 0 || !slices.Contains(stages, v.Stage):
			return fmt.Errorf("version %s: %d bytes at stage %q", v.Version, v.Bytes, v.Stage)
		case v.Report != "" && checkReport(v.Report) != nil:
			return fmt.Errorf("version %s: report %q is no file's name", v.Version, v.Report)
		}
		seen[v.Version] = true
	}
	for what, v := range map[string]string{"live": m.Live, "previous": m.Previous} {
		if v != "" && !seen[v] {
			return fmt.Errorf("%s: there is no version %q", what, v)
		}
	}
	if m.Minimum != "" {
		if err := CheckVersion(m.Minimum); err != nil {
			return err
		}
	}
	if m.Configured != "" && !isSum(m.Configured) {
		return fmt.Errorf("configured: %q is no hash", m.Configured)
	}
	if w := m.Want; w != nil {
		if !seen[w.Version] || !slices.Contains(wishes, w.Do) {
			return fmt.Errorf("want: %s of version %q", w.Do, w.Version)
		}
	}
	return nil
}

var wishes = []string{DoActivate, DoRollout, DoRollback, DoWithdraw}

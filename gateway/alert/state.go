package alert

import (
	"container/list"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"time"
)

// state is what a rule remembers of one source; it outlives the program.
type state struct {
	Source  string    `json:"source"`
	History uint64    `json:"history"` // the last results, the newest in bit 0
	Heard   time.Time `json:"heard"`
	Event   *Event    `json:"event,omitempty"` // the last one; nil: never raised
	Spoke   time.Time `json:"spoke"`           // when the alert was last said
	// FalseSince is since when the condition is false without a break, zero
	// while it is true; Clear says that the clear expression was true at the
	// last result. Both matter while the alert is raised.
	FalseSince time.Time `json:"false_since"`
	Clear      bool      `json:"clear"`

	at   *list.Element // in the rule's recent
	told bool          // the event was published since the start
}

func (s *state) raised() bool { return s.Event != nil && s.Event.State != Cleared }

// push adds one result and says whether n of the last of fulfilled the rule.
func (s *state) push(now time.Time, fulfilled bool, n, of int) bool {
	s.Heard = now
	s.History <<= 1
	if fulfilled {
		s.History |= 1
	}
	return bits.OnesCount64(s.History&(1<<of-1)) >= n
}

// saved is the state file.
type saved struct {
	Rules map[string]savedRule `json:"rules"`
}

type savedRule struct {
	Hash    string   `json:"hash"` // of what the rule was then
	Sources []*state `json:"sources"`
}

const stateFile = "alerts.json"

// loadState reads the file; a missing one is an empty state, a broken one is
// set aside so that the gateway starts.
func loadState(dir string) (saved, error) {
	path := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return saved{}, nil
	}
	if err != nil {
		return saved{}, fmt.Errorf("alert state: %w", err)
	}
	var s saved
	if err := json.Unmarshal(b, &s); err != nil {
		if e := os.Rename(path, path+".broken"); e != nil {
			return saved{}, fmt.Errorf("alert state: %w", e)
		}
		return saved{}, nil
	}
	return s, nil
}

// saveState replaces the file so that a power cut leaves the old or the new.
func saveState(dir string, s saved) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("alert state: %w", err)
	}
	f, err := os.CreateTemp(dir, stateFile+".*")
	if err != nil {
		return fmt.Errorf("alert state: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, stateFile))
	}
	if err == nil {
		var d *os.File
		if d, err = os.Open(dir); err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("alert state: %w", err)
	}
	return nil
}

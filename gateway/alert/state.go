package alert

import (
	"bytes"
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

// The state is a file that is replaced and a journal of what happened since,
// a line for each event: appending is what flash memory bears best.
const (
	stateFile   = "alerts.json"
	journalFile = "alerts.log"
)

// entry is a line of the journal.
type entry struct {
	Rule  string `json:"rule"`
	Hash  string `json:"hash"`
	State *state `json:"state"`
}

// loadState reads both files; missing ones are an empty state. A broken state
// file is set aside so that the gateway starts; damage tells of it, and of
// lines that a power cut left torn.
func loadState(dir string) (s saved, damage, err error) {
	path := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return saved{}, nil, fmt.Errorf("alert state: %w", err)
	}
	if err == nil {
		if e := json.Unmarshal(b, &s); e != nil {
			s, damage = saved{}, fmt.Errorf("%s is set aside: %w", path, e)
			if e := os.Rename(path, path+".broken"); e != nil {
				return saved{}, nil, fmt.Errorf("alert state: %w", e)
			}
		}
	}
	b, err = os.ReadFile(filepath.Join(dir, journalFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return saved{}, nil, fmt.Errorf("alert state: %w", err)
	}
	return s, errors.Join(damage, s.replay(b)), nil
}

// replay applies the lines of a journal, each of which replaces what is known
// of its source.
func (s *saved) replay(lines []byte) (damage error) {
	at := map[[2]string]int{} // by rule and source
	for name, r := range s.Rules {
		for i, st := range r.Sources {
			if st != nil {
				at[[2]string{name, st.Source}] = i
			}
		}
	}
	if s.Rules == nil {
		s.Rules = map[string]savedRule{}
	}
	for line := range bytes.Lines(lines) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil || e.State == nil {
			damage = fmt.Errorf("%s: a torn line is left out", journalFile)
			continue
		}
		r, key := s.Rules[e.Rule], [2]string{e.Rule, e.State.Source}
		r.Hash = e.Hash
		if i, ok := at[key]; ok {
			r.Sources[i] = e.State
		} else {
			at[key] = len(r.Sources)
			r.Sources = append(r.Sources, e.State)
		}
		s.Rules[e.Rule] = r
	}
	return damage
}

// saveState replaces the state file so that a power cut leaves the old or the
// new, and then removes the journal, whose lines it holds.
func saveState(dir string, s saved) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("alert state: %w", err)
	}
	path := filepath.Join(dir, stateFile)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("alert state: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err == nil {
		if err = os.Remove(filepath.Join(dir, journalFile)); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("alert state: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// journal is the open journal, or one that is begun with the next lines.
type journal struct {
	file *os.File
	size int64
}

// write appends lines and returns when they are on the medium. After an error
// the journal must be given up for a new state file: what a failed sync left
// is not known.
func (j *journal) write(dir string, lines []byte) error {
	if j.file == nil {
		f, err := os.OpenFile(filepath.Join(dir, journalFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("alert state: %w", err)
		}
		j.file, j.size = f, 0
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("alert state: %w", err)
		}
	}
	n, err := j.file.Write(lines)
	j.size += int64(n)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("alert state: %w", err)
	}
	return nil
}

func (j *journal) close() {
	if j.file != nil {
		_ = j.file.Close() // what counts in it is synced
		j.file = nil
	}
}

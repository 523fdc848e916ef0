package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Errors of a store; what is returned wraps one of them and says more.
var (
	ErrUnknown = errors.New("not in the store")
	ErrOld     = errors.New("older than the minimum")
	ErrTaken   = errors.New("there with other content")
	ErrKept    = errors.New("live, or the one before it")
	ErrFull    = errors.New("the store is full")
	ErrNoWay   = errors.New("no way back")
)

// Store is a folder of versions. It is for many goroutines, and several
// processes may have it open.
type Store struct {
	dir   string
	disk  disk
	terms atomic.Pointer[terms]
	bases atomic.Pointer[[]string] // model files that packed ones may build on too

	mu     sync.Mutex // a change, or a look at the state, at a time
	lock   *os.File   // nil: it is open for reading alone
	read   State
	stamp  os.FileInfo // of the state file when it was read; nil: never, or it was not there
	settle bool        // it was not touched for long when it was read
	pinned []string    // NAME@VERSION that streams keep to
	left   []string    // NAME@VERSION that made room, and that nobody was told of yet
}

// Dir is where the store of a gateway's data folder is.
func Dir(data string) string { return filepath.Join(data, "models") }

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// State is what is there now. It is the caller's own. Where nothing changed it
// costs a stat of a file.
func (s *Store) State() (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.load()
	if err != nil {
		return State{}, fmt.Errorf("store: %w", err)
	}
	return st.clone(), nil
}

// settled is how long a file must have been left alone for its time to tell
// whether it was changed: a file system's clock has ticks.
const settled = time.Second

// load reads the state where it changed since. What it gives belongs to s.
func (s *Store) load() (State, error) {
	path := s.path("state.json")
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.stamp = nil
		if entries, err := os.ReadDir(s.path("files")); err == nil && len(entries) > 0 {
			return State{}, fmt.Errorf("%s: %w; put it back, or start a gateway, which goes on without and looks for the versions whose files are there", path, errGone)
		}
		return State{Models: map[string]*ModelState{}}, nil
	case err != nil:
		return State{}, err
	case s.stamp != nil && s.settle && os.SameFile(info, s.stamp) && info.ModTime().Equal(s.stamp.ModTime()) && info.Size() == s.stamp.Size():
		return s.read, nil
	}
	now := time.Now()
	text, err := readBounded(path, maxState)
	if err != nil {
		return State{}, err
	}
	st, err := parseState(text)
	if err != nil {
		return State{}, fmt.Errorf("%s: %w; a gateway that starts keeps it aside and goes on without", path, err)
	}
	// Between the two a newer one may have come: then this stamp is older than
	// what was read, and the next look reads again.
	s.read, s.stamp, s.settle = st, info, now.Sub(info.ModTime()) > settled
	return st, nil
}

// lockWait is how long another process may take with its change.
const lockWait = 30 * time.Second

// locked runs f while nobody else, here or in another process, changes the
// store.
func (s *Store) locked(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return fmt.Errorf("%s is open for reading alone", s.dir)
	}
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || time.Since(begin) > lockWait {
			return fmt.Errorf("%s is held by another process: %w", s.lock.Name(), err)
		}
	}
	defer func() { _ = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_UN) }()
	return f()
}

// change lets f change the state, and writes it where it did.
func (s *Store) change(f func(st *State) error) error {
	return s.locked(func() error { return s.apply(f) })
}

// apply is change for who has the lock.
func (s *Store) apply(f func(st *State) error) error {
	was, err := s.load()
	if err != nil {
		return err
	}
	st := was.clone()
	if err := f(&st); err != nil {
		return err
	}
	before, err := was.encode()
	if err != nil {
		return err
	}
	after, err := st.encode()
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	err = s.disk.replace(s.path("state.json"), after)
	if errors.Is(err, syscall.ENOSPC) && s.disk.remove(s.path(reserve)) == nil {
		err = s.disk.replace(s.path("state.json"), after)
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("nothing is changed, for the disk is full and the reserve of the store is used up; remove something else from the disk: %w", err)
	}
	return err
}

// version is a version of a model in st, with the model; the error says which
// there are.
func (st State) version(name, version string) (*ModelState, *Version, error) {
	m := st.Models[name]
	if m == nil {
		there := "there is none"
		if names := slices.Sorted(maps.Keys(st.Models)); len(names) > 0 {
			there = "there are " + cut(strings.Join(names, ", "))
		}
		return nil, nil, fmt.Errorf("model %s: %w; %s", name, ErrUnknown, there)
	}
	if v := m.Find(version); v != nil {
		return m, v, nil
	}
	var have []string
	for _, v := range m.Versions {
		have = append(have, v.Version)
	}
	return nil, nil, fmt.Errorf("model %s@%s: %w; there are %s", name, version, ErrUnknown, strings.Join(have, ", "))
}

// Want writes down what somebody wants, in place of what was wanted before. A
// rollback without a version means the one before the live one, whatever the
// minimum is. What cannot be done is refused: a version that is not there, one
// below the minimum, one that is not signed where it must be, and a rollback to
// one that failed or was withdrawn.
func (s *Store) Want(name string, w Want) error {
	err := s.change(func(st *State) error {
		if !slices.Contains(wishes, w.Do) {
			return fmt.Errorf("%q is none of %s", w.Do, strings.Join(wishes, ", "))
		}
		m := st.Models[name]
		if w.Do == DoRollback && w.Version == "" && m != nil {
			if m.Previous == "" {
				return fmt.Errorf("model %s: %w: there is no version before the live one to go back to", name, ErrUnknown)
			}
			w.Version = m.Previous
		}
		m, v, err := st.version(name, w.Version)
		if err != nil {
			return err
		}
		back := w.Do == DoRollback
		if back && (v.Stage == Failed || v.Stage == Withdrawn) {
			was := map[Stage]string{Failed: "failed", Withdrawn: "was withdrawn"}[v.Stage]
			return fmt.Errorf("model %s: %w: the version before is %s@%s, which %s (%s); if it is to be that one, activate it", name, ErrNoWay, name, v.Version, was, v.Why)
		}
		if w.Do != DoWithdraw {
			if err := s.takes(m, v, back); err != nil {
				return fmt.Errorf("model %s@%s: %w", name, v.Version, err)
			}
		}
		if w.At.IsZero() {
			w.At = time.Now().UTC()
		}
		m.Want = &w
		m.giveUp()
		return nil
	})
	return wrap(err)
}

func wrap(err error) error {
	if err != nil {
		err = fmt.Errorf("store: %w", err)
	}
	return err
}

// takes says whether a version may become live. The minimum does not hold for
// the way back to the version before: else one that does harm, and brought a
// minimum, could not be taken back.
func (s *Store) takes(m *ModelState, v *Version, back bool) error {
	if back && (v.Version == m.Previous || v.Version == m.Live) {
		return s.trusts(v)
	}
	if m.Minimum != "" && CompareVersions(v.Version, m.Minimum) < 0 {
		return fmt.Errorf("%w: none below %s is taken since one that says so was live", ErrOld, m.Minimum)
	}
	return s.trusts(v)
}

// trusts says whether a version is signed where it must be.
func (s *Store) trusts(v *Version) error {
	terms := s.terms.Load()
	if !terms.RequireSigned || v.From == FromConfiguration {
		return nil
	}
	if v.Signature == "" { // it was added before that was required
		return fmt.Errorf("%w, and require_signed is set", ErrUnsigned)
	}
	_, text, err := s.manifest(v)
	if err != nil {
		return err
	}
	sig, err := s.content(v.Signature, maxSignature)
	if err != nil {
		return err
	}
	return verify(text, sig, terms.keys)
}

// Untrusted says which versions that answer, the live ones and those that streams
// are pinned to, would not be taken now: they are not signed as the configuration
// asks for. They go on all the same.
func (s *Store) Untrusted() (list []error) {
	st, err := s.State()
	if err != nil {
		return nil // who asks for the state is told
	}
	for _, name := range slices.Sorted(maps.Keys(st.Models)) {
		m := st.Models[name]
		for i := range m.Versions {
			v := &m.Versions[i]
			s.mu.Lock()
			answers := v.Version == m.Live || s.isPinned(name, v.Version)
			s.mu.Unlock()
			if !answers {
				continue
			}
			if err := s.trusts(v); err != nil {
				list = append(list, fmt.Errorf("model %s@%s: %w", name, v.Version, err))
			}
		}
	}
	return list
}

// Activate makes a version the live one; the live one becomes the one before
// it. The wish for it is done with, and its minimum counts from now on. A
// version of the configuration's file is taken whatever the minimum is: the
// owner of the box put it there.
func (s *Store) Activate(name, version, why string) error {
	return wrap(s.change(func(st *State) error {
		m, v, err := st.version(name, version)
		if err != nil {
			return err
		}
		if v.From != FromConfiguration {
			// Whoever wants an old one is refused by Want; it is the way back here.
			if err := s.takes(m, v, true); err != nil {
				return fmt.Errorf("model %s@%s: %w", name, version, err)
			}
			man, _, err := s.manifest(v)
			if err != nil {
				return fmt.Errorf("model %s@%s: %w", name, version, err)
			}
			if man.Minimum != "" && (m.Minimum == "" || CompareVersions(man.Minimum, m.Minimum) > 0) {
				m.Minimum = man.Minimum
			}
		} else {
			m.Configured = v.Model
		}
		if m.Live != version {
			if old := m.Find(m.Live); old != nil {
				old.Stage, old.Why, old.Broken = Retired, "version "+version+" took its place", ""
				m.Previous = m.Live
			}
			m.Live = version
		}
		v.Stage, v.Why, v.Broken = Live, cut(why), ""
		m.done(version)
		return nil
	}))
}

// done ends a wish for a version.
func (m *ModelState) done(version string) {
	if m.Want != nil && m.Want.Version == version {
		m.Want = nil
	}
}

// Mark says how far a version has come and why, with the report of its trial
// (JSON; nil keeps the one before). A version that failed or is withdrawn is not
// wanted any more. The live version stays at Live whatever is said of it; Failed
// makes it Broken, and Passed whole again.
func (s *Store) Mark(name, version string, stage Stage, why string, report []byte) error {
	if !slices.Contains(stages, stage) || stage == Live {
		return fmt.Errorf("store: %q is no stage to mark", stage)
	}
	if len(report) > maxReport {
		return fmt.Errorf("store: report of %s@%s: %w: %d bytes, more than %d", name, version, ErrTooLarge, len(report), maxReport)
	}
	var gone string
	err := s.change(func(st *State) error {
		m, v, err := st.version(name, version)
		if err != nil {
			return err
		}
		if report != nil {
			file := fmt.Sprintf("%s@%s-%.8s.json", name, version, sumOf(report))
			if file != v.Report {
				if err := s.disk.replace(s.path("reports", file), report); err != nil {
					return err
				}
				gone, v.Report = v.Report, file
			}
		}
		switch {
		case m.Live != version:
			v.Stage = stage
		case stage == Failed:
			v.Broken = cut(why)
		case stage == Passed:
			v.Broken = ""
		}
		v.Why = cut(why)
		if stage == Failed || stage == Withdrawn {
			m.done(version)
		}
		return nil
	})
	if err == nil && gone != "" {
		err = s.disk.remove(s.path("reports", gone))
	}
	return wrap(err)
}

// cut shortens a reason to what the state takes.
func cut(why string) string {
	if len(why) > maxWhy {
		why = strings.ToValidUTF8(why[:maxWhy], "") + " ..."
	}
	return why
}

// checkReport says whether s is the name of a file in the folder of reports.
func checkReport(s string) error {
	if s != filepath.Base(s) || strings.HasPrefix(s, ".") || !strings.HasSuffix(s, ".json") {
		return errors.New("is no file's name")
	}
	return nil
}

// Report is what the trial of a version said, JSON; nil where there was none.
func (s *Store) Report(v Version) ([]byte, error) {
	if v.Report == "" {
		return nil, nil
	}
	if err := checkReport(v.Report); err != nil {
		return nil, wrap(err)
	}
	b, err := readBounded(s.path("reports", v.Report), maxReport)
	return b, wrap(err)
}

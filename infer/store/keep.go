package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// busy says whether a version must stay: it is live, was before, is wanted, or
// is at work.
func (m *ModelState) busy(v *Version) bool {
	return v.Version == m.Live || v.Version == m.Previous || m.Want != nil && m.Want.Version == v.Version || v.atWork()
}

// atWork says whether somebody runs it, beside the live one or for a trial.
func (v *Version) atWork() bool { return v.Stage == Trying || v.Stage == Shadow || v.Stage == Canary }

// Pin keeps versions, NAME@VERSION each, in place of those that were pinned
// before: those of streams that do not follow the live one. It holds for this
// Store, and is not written down.
func (s *Store) Pin(refs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pinned = slices.Clone(refs)
}

// isPinned says whether streams keep to a version; the caller has the lock.
func (s *Store) isPinned(name, version string) bool {
	return slices.Contains(s.pinned, name+"@"+version)
}

// makeRoom takes versions out of st until v fits: of its model while there are
// Keep, of all models while they have more than KeepBytes. Those that failed or
// were withdrawn go first, then the oldest.
func (s *Store) makeRoom(st State, name string, v Version) error {
	cfg := s.terms.Load().Config
	drop := func(names ...string) bool {
		var from *ModelState
		at := -1
		for _, n := range names {
			m := st.Models[n]
			for i := range m.Versions {
				if o := &m.Versions[i]; !m.busy(o) && !s.isPinned(n, o.Version) && (at < 0 || sooner(o, &from.Versions[at])) {
					from, at = m, i
				}
			}
		}
		if at < 0 {
			return false
		}
		from.Versions = slices.Delete(from.Versions, at, at+1)
		return true
	}
	for m := st.Models[name]; m != nil && len(m.Versions) >= cfg.Keep; {
		if !drop(name) {
			return fmt.Errorf("%w: of model %s keep: %d versions, and all are live, the one before, wanted, pinned or at work", ErrFull, name, cfg.Keep)
		}
	}
	var all []string
	for n := range st.Models {
		all = append(all, n)
	}
	slices.Sort(all)
	for st.bytes()+v.Bytes > cfg.KeepBytes {
		if !drop(all...) {
			return fmt.Errorf("%w: %d bytes do not fit into keep_bytes: %d beside %d of versions that are live, the one before, wanted, pinned or at work",
				ErrFull, v.Bytes, cfg.KeepBytes, st.bytes())
		}
	}
	return nil
}

// sooner says whether a goes before b.
func sooner(a, b *Version) bool {
	useless := func(v *Version) bool { return v.Stage == Failed || v.Stage == Withdrawn }
	if useless(a) != useless(b) {
		return useless(a)
	}
	return a.Added.Before(b.Added)
}

func (s State) bytes() (n int64) {
	for _, m := range s.Models {
		for i := range m.Versions {
			n += m.Versions[i].Bytes
		}
	}
	return n
}

// Remove removes a version: never the live one or the one before it, nor one
// that is at work or pinned.
func (s *Store) Remove(name, version string) error {
	return wrap(s.locked(func() error {
		err := s.apply(func(st *State) error {
			m, v, err := st.version(name, version)
			if err != nil {
				return err
			}
			switch {
			case version == m.Live, version == m.Previous:
				return fmt.Errorf("model %s@%s: it is %w, and stays", name, version, ErrKept)
			case s.isPinned(name, version):
				return fmt.Errorf("model %s@%s: a stream is pinned to it (streams.NAME.version), and it stays", name, version)
			case v.atWork():
				return fmt.Errorf("model %s@%s: it is at work (%s); withdraw it first", name, version, v.Stage)
			}
			m.done(version)
			m.Versions = slices.DeleteFunc(m.Versions, func(o Version) bool { return o.Version == version })
			if len(m.Versions) == 0 {
				delete(st.Models, name)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.sweep(); err != nil {
			return err
		}
		s.keepReserve()
		return nil
	}))
}

// sweep removes the files that no version has. The caller has the lock. Where a
// manifest cannot be read, or the state was damaged or is away, nobody knows
// whose files there are: all stay.
func (s *Store) sweep() error {
	if len(s.Aside()) > 0 {
		return nil
	}
	if _, err := os.Stat(s.path("state.json")); err != nil {
		return nil
	}
	st, err := s.load()
	if err != nil {
		return err
	}
	files, reports := map[string]bool{}, map[string]bool{}
	for _, m := range st.Models {
		for i := range m.Versions {
			v := &m.Versions[i]
			man, _, err := s.manifest(v)
			if err != nil {
				return nil
			}
			files[v.Manifest], files[v.Signature], reports[v.Report] = true, true, true
			for _, p := range man.Files {
				files[p.SHA256] = true
			}
		}
	}
	return errors.Join(s.clear("files", files), s.clear("reports", reports))
}

// clear removes all of a folder but what is to stay.
func (s *Store) clear(folder string, stay map[string]bool) error {
	entries, err := os.ReadDir(s.path(folder))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !stay[e.Name()] {
			if err := s.disk.remove(s.path(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// tidy removes what processes left that were killed. The caller has the lock.
func (s *Store) tidy() error {
	if err := s.sweep(); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".new") { // who writes one has the lock
			if err := s.disk.remove(s.path(e.Name())); err != nil {
				return err
			}
		}
	}
	if entries, err = os.ReadDir(s.path("incoming")); err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), addPrefix) {
			continue
		}
		dir := s.path("incoming", e.Name())
		lock, err := os.Open(filepath.Join(dir, "lock"))
		if err == nil {
			err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
			lock.Close()
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			continue // somebody is at it
		}
		if err := s.disk.remove(dir); err != nil {
			return err
		}
	}
	return nil
}

// addPrefix begins the names of folders where Add gathers the files of a
// version.
const addPrefix = "add-"

// incoming makes a folder for the files of a version that comes. release removes
// it. It is locked, so that nobody takes it for one that was left behind.
func (s *Store) incoming() (dir string, release func(), err error) {
	var lock *os.File
	err = s.locked(func() error { // tidy must not come between the folder and its lock
		s.disk.before("mkdir", s.path("incoming"))
		if dir, err = os.MkdirTemp(s.path("incoming"), addPrefix); err != nil {
			return err
		}
		if lock, err = os.Create(filepath.Join(dir, "lock")); err != nil {
			return err
		}
		if err := s.disk.give(dir); err != nil {
			return err
		}
		return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	})
	if err != nil {
		return "", nil, err
	}
	return dir, func() {
		_ = s.disk.remove(dir) // else the next Open does
		lock.Close()
	}, nil
}

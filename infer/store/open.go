package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"edgegateway/internal/keyfile"
)

// terms are what the configuration says, with the keys that it names.
type terms struct {
	Config
	keys []keyfile.Key
}

// newTerms reads the keys. The error names the section's key that is to blame.
func newTerms(cfg Config) (*terms, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	keys, err := keyfile.Read(cfg.Keys...)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return &terms{cfg, keys}, nil
}

// Prepare reads what another configuration names; apply has it count from then
// on, for what comes and for what is there. Versions that are over a smaller keep
// leave when the next one comes. The error is as that of Open.
func (s *Store) Prepare(cfg Config) (apply func(), err error) {
	t, err := newTerms(cfg)
	if err != nil {
		return nil, err
	}
	return func() { s.terms.Store(t) }, nil
}

// Open opens the store in dir, and makes it where it is not there. The error
// names the section's key where the configuration is to blame.
func Open(dir string, cfg Config) (*Store, error) { return openOn(disk{}, dir, cfg, false) }

// OpenToRead opens the store in dir for looking alone, on a disk that may take
// nothing: it makes no folder, waits for no lock, and what changes something is
// refused.
func OpenToRead(dir string, cfg Config) (*Store, error) { return newStore(disk{}, dir, cfg) }

func newStore(d disk, dir string, cfg Config) (*Store, error) {
	t, err := newTerms(cfg)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, disk: d}
	s.terms.Store(t)
	return s, nil
}

// openOn is Open on a disk; anew it begins again where the state is damaged.
func openOn(d disk, dir string, cfg Config, anew bool) (*Store, error) {
	s, err := newStore(d, dir, cfg)
	if err != nil {
		return nil, err
	}
	dir = s.dir
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s.disk.owner = ownedAs(filepath.Dir(dir))
	for _, folder := range []string{dir, s.path("files"), s.path("reports"), s.path("incoming")} {
		if err := s.disk.folder(folder); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	if s.lock, err = os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err = s.locked(func() error { return s.begin(anew) }); err == nil {
		err = s.disk.syncDir(dir)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("store: %w", err)
	}
	return s, nil
}

// begin makes the store ready for changes. The caller has the lock.
func (s *Store) begin(anew bool) error {
	if err := s.disk.give(s.path("lock")); err != nil {
		return err
	}
	_, err := s.load()
	if anew && (errors.Is(err, ErrDamaged) || errors.Is(err, ErrTooLarge)) {
		err = s.beginAnew()
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(s.path("state.json")); errors.Is(err, fs.ErrNotExist) {
		// There is one before there are files, so that files without one tell that
		// it is gone. A disk that takes nothing now takes no files either.
		if text, err := (State{Models: map[string]*ModelState{}}).encode(); err == nil {
			_ = s.disk.replace(s.path("state.json"), text)
		}
	}
	_ = s.apply(giveUp) // a disk that takes nothing now is left to the next one
	if err := s.tidy(); err != nil {
		return err
	}
	s.keepReserve()
	return nil
}

// Close lets go of the folder.
func (s *Store) Close() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

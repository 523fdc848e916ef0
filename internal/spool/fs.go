package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// FS is the file layer beneath a Log. The zero Options use the operating
// system's; a test puts one below that fails or forgets.
type FS interface {
	// OpenFile has the flags of os.OpenFile.
	OpenFile(name string, flag int, perm os.FileMode) (File, error)
	Remove(name string) error
	// Mkdir makes one folder, with the errors of os.Mkdir.
	Mkdir(dir string, perm os.FileMode) error
	// ReadDir returns the names in dir.
	ReadDir(dir string) ([]string, error)
	// SyncDir makes the creation and removal of dir's files and folders durable.
	SyncDir(dir string) error
}

// File is an open file of an FS. It is an alias so that a test's file layer
// can name the same type without this package.
type File = interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync returns when what was written is on the medium.
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
}

// makeDir makes a folder and its missing parents. A power cut finds a folder
// again only when the one that holds it is synced.
func makeDir(fs FS, dir string) error {
	parent := filepath.Dir(dir)
	err := fs.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrNotExist) && parent != dir {
		if err = makeDir(fs, parent); err == nil {
			err = fs.Mkdir(dir, 0o700)
		}
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := fs.SyncDir(parent); err != nil {
		return fmt.Errorf("sync %s: %w", parent, err)
	}
	return nil
}

type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (osFS) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) Mkdir(dir string, perm os.FileMode) error { return os.Mkdir(dir, perm) }

func (osFS) ReadDir(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // some file systems cannot sync a folder and need not
	}
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

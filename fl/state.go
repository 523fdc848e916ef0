package fl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Memory is a State that ends with the program: for tests and simulations.
type Memory struct {
	mu    sync.Mutex
	files map[string][]byte
}

// NewMemory is empty.
func NewMemory() *Memory { return &Memory{files: map[string][]byte{}} }

// Put keeps a copy of data.
func (m *Memory) Put(name string, data []byte) error {
	if err := checkFile(name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = append([]byte{}, data...)
	return nil
}

// Loose is Put: nothing here outlives the program.
func (m *Memory) Loose(name string, data []byte) error { return m.Put(name, data) }

// Get gives a copy.
func (m *Memory) Get(name string) ([]byte, error) {
	if err := checkFile(name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.files[name]), nil
}

// Delete removes one; that it is not there is fine.
func (m *Memory) Delete(name string) error {
	if err := checkFile(name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}

// List gives the names that begin with prefix, sorted.
func (m *Memory) List(prefix string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []string
	for name := range m.files {
		if strings.HasPrefix(name, prefix) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list, nil
}

// Clone is a copy as it is now: what a program that is killed now leaves.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMemory()
	for name, data := range m.files {
		c.files[name] = data // never written to
	}
	return c
}

// Dir is a State in a folder: a Put is on the disk when it returns.
type Dir struct{ path string }

// unfinished ends the names of files that are being written.
const unfinished = ".new"

// NewDir makes the folder where it is not there, and removes what a program that
// was killed had not finished. One program at a time may use a folder.
func NewDir(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	d := &Dir{path}
	err := filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.HasSuffix(p, unfinished) {
			err = os.Remove(p)
		}
		return err
	})
	return d, err
}

// checkFile says whether a State takes a name: parts of letters, digits, dash,
// underscore and dots between slashes.
func checkFile(name string) error {
	for part := range strings.SplitSeq(name, "/") {
		if strings.Trim(part, ".") == "" || strings.HasSuffix(part, unfinished) || len(part) > 200 || strings.ContainsFunc(part, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
		}) {
			return fmt.Errorf("state: %.300q is no name of a file", name)
		}
	}
	return nil
}

func (d *Dir) file(name string) string { return filepath.Join(d.path, filepath.FromSlash(name)) }

// Put writes a file that takes the place of one with its name at once, and is on
// the disk when it returns.
func (d *Dir) Put(name string, data []byte) error {
	if err := checkFile(name); err != nil {
		return err
	}
	folder := filepath.Dir(d.file(name))
	if err := d.folder(folder); err != nil {
		return err
	}
	if err := d.write(name, data, (*os.File).Sync); err != nil {
		return err
	}
	return syncDir(folder)
}

// Loose writes a file that takes the place of one with its name at once.
func (d *Dir) Loose(name string, data []byte) error {
	if err := checkFile(name); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(d.file(name)), 0o700); err != nil {
		return err
	}
	return d.write(name, data, func(*os.File) error { return nil })
}

func (d *Dir) write(name string, data []byte, sync func(*os.File) error) error {
	path := d.file(name)
	f, err := os.OpenFile(path+unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+unfinished, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+unfinished))
	}
	return nil
}

// folder makes a folder within the state's, durably.
func (d *Dir) folder(path string) error {
	if _, err := os.Stat(path); err == nil || path == d.path {
		return err
	}
	if err := d.folder(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Get reads a file; nil where there is none.
func (d *Dir) Get(name string) ([]byte, error) {
	if err := checkFile(name); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(d.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && data == nil {
		data = []byte{}
	}
	return data, err
}

// Delete removes a file; that it is not there is fine. Folders that become empty
// go with it.
func (d *Dir) Delete(name string) error {
	if err := checkFile(name); err != nil {
		return err
	}
	path := d.file(name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for path = filepath.Dir(path); path != d.path; path = filepath.Dir(path) {
		if os.Remove(path) != nil { // it is not empty
			break
		}
	}
	return nil
}

// List gives the names that begin with prefix, sorted.
func (d *Dir) List(prefix string) ([]string, error) {
	top := d.path
	if at := strings.LastIndexByte(prefix, '/'); at > 0 {
		if err := checkFile(prefix[:at]); err != nil {
			return nil, err
		}
		top = d.file(prefix[:at])
	}
	var list []string
	err := filepath.WalkDir(top, func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() || strings.HasSuffix(p, unfinished) {
			return err
		}
		name, err := filepath.Rel(d.path, p)
		if name = filepath.ToSlash(name); err == nil && strings.HasPrefix(name, prefix) {
			list = append(list, name)
		}
		return err
	})
	slices.Sort(list)
	return list, err
}

// Package spooltest is a file layer in memory for tests of what must survive
// a power cut: at the kill it forgets what was not synced, and it fails and
// falls short on demand.
package spooltest

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// FS is a spool.FS in memory. The zero value is empty and never fails.
type FS struct {
	// Fail is asked before each operation (open, create, mkdir, read, write,
	// sync, truncate, remove, readdir, syncdir) and makes it fail with what it
	// returns. A failed write leaves half of its bytes behind; what a failed
	// sync should have written is never durable, as on Linux.
	Fail func(op, name string) error
	// Space is how many bytes all files may take together; 0 for no limit.
	Space int64

	mu      sync.Mutex
	names   map[string]*inode // as a running process sees it
	durable map[string]*inode // as it is after a power cut
	syncs   int
}

type inode struct {
	data   []byte
	synced []byte
	dirty  int // data from here on is not synced
	dir    bool
}

// Kill is a power cut: it returns the layer as the next start finds it. Files
// and bytes that were not synced are gone, or, with rnd, some of them are
// there in part. What still runs on f sees nothing of it.
func (f *FS) Kill(rnd *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := map[string]*inode{}
	for name, n := range f.durable {
		left[name] = n
	}
	for name, n := range f.names {
		if rnd != nil && rnd.IntN(2) == 0 {
			left[name] = n
		}
	}
	after := &FS{names: map[string]*inode{}, durable: map[string]*inode{}}
	for name, n := range left {
		if !found(left, filepath.Dir(name)) {
			continue // its folder is gone
		}
		kept := slices.Clone(n.synced)
		if more := len(n.data) - len(kept); rnd != nil && more > 0 {
			kept = append(kept, n.data[len(kept):len(kept)+rnd.IntN(more+1)]...)
		}
		c := &inode{data: kept, synced: slices.Clone(kept), dirty: len(kept), dir: n.dir}
		after.names[name], after.durable[name] = c, c
	}
	return after
}

// Syncs is how many file syncs there were.
func (f *FS) Syncs() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.syncs
}

// Bytes returns the content of a file, to be changed in place.
func (f *FS) Bytes(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.names[name]; n != nil {
		return n.data
	}
	return nil
}

func (f *FS) fail(op, name string) error {
	if f.Fail == nil {
		return nil
	}
	if err := f.Fail(op, filepath.Base(name)); err != nil {
		return &os.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// File is spool.File.
type File = interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
}

// OpenFile implements spool.FS.
func (f *FS) OpenFile(name string, flag int, _ os.FileMode) (File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.names[name]
	switch {
	case !found(f.names, filepath.Dir(name)):
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	case n != nil && flag&os.O_EXCL != 0:
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EEXIST}
	case n == nil && flag&os.O_CREATE == 0:
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	case n == nil:
		if err := f.fail("create", name); err != nil {
			return nil, err
		}
		n = &inode{}
		f.begin()
		f.names[name] = n
	default:
		if err := f.fail("open", name); err != nil {
			return nil, err
		}
	}
	return &file{fs: f, name: name, n: n}, nil
}

// Remove implements spool.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail("remove", name); err != nil {
		return err
	}
	if f.names[name] == nil {
		return &os.PathError{Op: "remove", Path: name, Err: syscall.ENOENT}
	}
	delete(f.names, name)
	return nil
}

// found reports whether a folder and all above it are there.
func found(names map[string]*inode, dir string) bool {
	for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if n := names[dir]; n == nil || !n.dir {
			return false
		}
	}
	return true
}

// Mkdir implements spool.FS.
func (f *FS) Mkdir(dir string, _ os.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.names[dir] != nil:
		return &os.PathError{Op: "mkdir", Path: dir, Err: syscall.EEXIST}
	case !found(f.names, filepath.Dir(dir)):
		return &os.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOENT}
	}
	if err := f.fail("mkdir", dir); err != nil {
		return err
	}
	f.begin()
	f.names[dir] = &inode{dir: true}
	return nil
}

func (f *FS) begin() {
	if f.names == nil {
		f.names, f.durable = map[string]*inode{}, map[string]*inode{}
	}
}

// ReadDir implements spool.FS.
func (f *FS) ReadDir(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail("readdir", dir); err != nil {
		return nil, err
	}
	var names []string
	for name := range f.names {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	return names, nil
}

// SyncDir implements spool.FS.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail("syncdir", dir); err != nil {
		return err
	}
	for name := range f.durable {
		if filepath.Dir(name) == dir && f.names[name] == nil {
			delete(f.durable, name)
		}
	}
	for name, n := range f.names {
		if filepath.Dir(name) == dir {
			f.durable[name] = n
		}
	}
	return nil
}

func (f *FS) used() int64 {
	var sum int64
	for _, n := range f.names {
		sum += int64(len(n.data))
	}
	return sum
}

type file struct {
	fs   *FS
	name string
	n    *inode
}

// begin locks the layer for an operation of an open file.
func (f *file) begin(op string) error {
	f.fs.mu.Lock()
	return f.fs.fail(op, f.name)
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	defer f.fs.mu.Unlock()
	if err := f.begin("read"); err != nil {
		return 0, err
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	defer f.fs.mu.Unlock()
	err := f.begin("write")
	if err != nil {
		p = p[:len(p)/2]
	}
	if grow := off + int64(len(p)) - int64(len(f.n.data)); f.fs.Space > 0 && grow > 0 {
		if room := f.fs.Space - f.fs.used(); grow > room {
			p = p[:max(0, int64(len(p))-(grow-max(0, room)))]
			err = &os.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
		}
	}
	if len(p) > 0 {
		if end := int(off) + len(p); end > len(f.n.data) {
			f.n.data = append(f.n.data, make([]byte, end-len(f.n.data))...)
		}
		copy(f.n.data[off:], p)
		f.n.dirty = min(f.n.dirty, int(off))
	}
	return len(p), err
}

func (f *file) Sync() error {
	defer f.fs.mu.Unlock()
	err := f.begin("sync")
	n := f.n
	if err == nil {
		f.fs.syncs++
		for len(n.synced) < n.dirty { // what a failed sync left out
			n.synced = append(n.synced, 0)
		}
		n.synced = append(n.synced[:n.dirty], n.data[n.dirty:]...)
	}
	n.dirty = len(n.data)
	return err
}

func (f *file) Truncate(size int64) error {
	defer f.fs.mu.Unlock()
	if err := f.begin("truncate"); err != nil {
		return err
	}
	if size < int64(len(f.n.data)) {
		f.n.data = f.n.data[:size]
		f.n.dirty = min(f.n.dirty, int(size))
	}
	return nil
}

func (f *file) Size() (int64, error) {
	defer f.fs.mu.Unlock()
	if err := f.begin("size"); err != nil {
		return 0, err
	}
	return int64(len(f.n.data)), nil
}

func (f *file) Close() error { return nil }

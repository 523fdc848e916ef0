package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// dataFolder is the folder that this gateway alone writes.
type dataFolder struct {
	dir   string
	lock  *os.File
	mu    sync.Mutex
	epoch uint64
}

// openData makes the folder where it is missing and locks it; a second
// gateway is refused and told the name of the first.
func openData(dir, gateway string) (*dataFolder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	// A new folder outlives a power cut when the one that holds it is synced;
	// one that is not ours to open was there before.
	if above, err := os.Open(filepath.Dir(dir)); err == nil {
		_ = above.Sync()
		above.Close()
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer lock.Close()
		holder := make([]byte, 256)
		n, _ := lock.ReadAt(holder, 0)
		return nil, fmt.Errorf("data: %s is in use by %s; give this gateway a folder of its own (data:)",
			dir, strings.TrimSpace(string(holder[:n])))
	}
	d := &dataFolder{dir: dir, lock: lock}
	if err := errors.Join(lock.Truncate(0), d.readEpoch()); err != nil {
		lock.Close()
		return nil, fmt.Errorf("data: %w", err)
	}
	if _, err := lock.WriteAt(fmt.Appendf(nil, "gateway %q, process %d\n", gateway, os.Getpid()), 0); err != nil {
		lock.Close()
		return nil, fmt.Errorf("data: %w", err)
	}
	return d, nil
}

// Holder is the process of the gateway that has a data folder, 0 where none
// has it.
func Holder(dir string) (pid int, err error) {
	lock, err := os.Open(filepath.Join(dir, "lock"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("data: %w", err)
	}
	defer lock.Close()
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil {
		return 0, nil // it ended without a word
	}
	text, err := io.ReadAll(io.LimitReader(lock, 256))
	if err != nil {
		return 0, fmt.Errorf("data: %w", err)
	}
	_, number, _ := strings.Cut(strings.TrimSpace(string(text)), ", process ")
	if pid, err = strconv.Atoi(number); err != nil || pid < 2 {
		return 0, fmt.Errorf("data: %s names no process", lock.Name())
	}
	return pid, nil
}

func (d *dataFolder) path(name string) string { return filepath.Join(d.dir, name) }

func (d *dataFolder) readEpoch() error {
	b, err := os.ReadFile(d.path("epoch"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d.epoch, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return fmt.Errorf("%s holds no number: %w", d.path("epoch"), err)
	}
	return nil
}

// nextEpoch gives a number that it never gave before, also over restarts and
// power cuts: it is on disk before it is used.
func (d *dataFolder) nextEpoch() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := d.epoch + 1
	if err := writeFile(d.path("epoch"), fmt.Appendln(nil, next)); err != nil {
		return 0, fmt.Errorf("start counter: %w", err)
	}
	d.epoch = next
	return next, nil
}

func (d *dataFolder) close() error { return d.lock.Close() }

// writeFile replaces a file so that a power cut leaves the old or the new.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

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
	"time"
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
	if who, err := lockAlone(lock); err != nil {
		lock.Close()
		return nil, fmt.Errorf("data: %s is in use by %s; give this gateway a folder of its own (data:)", dir, who)
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

// lockPatience is how long the lock of a gateway that was killed is waited for.
const lockPatience = 10 * time.Second

// lockAlone locks, or gives what the one who has the lock wrote into it. A process
// that a gateway was about to start when it was killed has a copy of the lock until
// it becomes another program; at the lowest priority, on a busy box, that is a while.
func lockAlone(lock *os.File) (who string, err error) {
	for late := time.Now().Add(lockPatience); ; time.Sleep(10 * time.Millisecond) {
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return "", nil
		}
		text := make([]byte, 256)
		n, _ := lock.ReadAt(text, 0)
		who, _, _ = strings.Cut(string(text[:n]), "\n")
		var name string
		var process int
		if _, bad := fmt.Sscanf(who, "gateway %q, process %d", &name, &process); bad != nil || process < 2 {
			return who, err
		}
		if syscall.Kill(process, 0) != syscall.ESRCH || time.Now().After(late) {
			return who, err
		}
	}
}

// tell writes behind the name and the process what others need to know of a
// gateway that has begun.
func (d *dataFolder) tell(config, dashboard string) error {
	info, err := d.lock.Stat()
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if _, err := d.lock.WriteAt(fmt.Appendf(nil, "configuration %q\ndashboard %q\n", config, dashboard), info.Size()); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	return nil
}

// Running is a gateway that has a data folder.
type Running struct {
	Gateway   string
	Process   int
	Config    string // its configuration file; "" where it does not say
	Dashboard string // host:port, "" without
}

// Holder is the gateway that has a data folder, nil where none has it.
func Holder(dir string) (*Running, error) {
	lock, err := os.Open(filepath.Join(dir, "lock"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	defer lock.Close()
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil {
		return nil, nil // it ended without a word
	}
	text, err := io.ReadAll(io.LimitReader(lock, 16<<10))
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	var r Running
	who, rest, _ := strings.Cut(string(text), "\n")
	if _, err := fmt.Sscanf(who, "gateway %q, process %d", &r.Gateway, &r.Process); err != nil || r.Process < 2 {
		return nil, fmt.Errorf("data: %s names no process", lock.Name())
	}
	_, _ = fmt.Sscanf(rest, "configuration %q\ndashboard %q\n", &r.Config, &r.Dashboard) // not there while it starts
	return &r, nil
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

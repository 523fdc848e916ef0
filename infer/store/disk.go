package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// disk is all that a store does to files. step, where a test set it, hears of
// each step before it is made, and may end the process there.
type disk struct {
	step  func(do, path string)
	owner *syscall.Stat_t // whom files are given to; nil: they stay ours
}

// ownedAs is whom root gives the files that it makes in a folder to: the owner
// of the folder, so that a gateway without rights reads what an administrator
// brought. It is nil for others.
func ownedAs(dir string) *syscall.Stat_t {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return nil
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil
	}
	return st
}

// give gives a file or folder to its owner.
func (d *disk) give(path string) error {
	if d.owner == nil {
		return nil
	}
	return os.Lchown(path, int(d.owner.Uid), int(d.owner.Gid))
}

// folder makes a folder where it is not there.
func (d *disk) folder(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return errors.Join(err, d.give(path))
}

func (d *disk) before(do, path string) {
	if d.step != nil {
		d.step(do, path)
	}
}

// chunk is how much is written in one step.
const chunk = 64 << 10

// create writes a new file, and syncs it: a rename of it then gives the whole
// file whatever happens.
func (d *disk) create(path string, data []byte) (err error) {
	d.before("create", path)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := d.give(path); err != nil {
		return err
	}
	for len(data) > 0 {
		n := min(len(data), chunk)
		d.before("write", path)
		if _, err := f.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	d.before("sync", path)
	return f.Sync()
}

// replace writes a file that takes the place of another at once.
func (d *disk) replace(path string, data []byte) error {
	temp := fmt.Sprintf("%s.%d.new", path, os.Getpid())
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one with this number that was killed
		return err
	}
	if err := d.create(temp, data); err != nil {
		_ = os.Remove(temp)
		return err
	}
	if err := d.rename(temp, path); err != nil {
		_ = os.Remove(temp)
		return err
	}
	return d.syncDir(filepath.Dir(path))
}

func (d *disk) rename(from, to string) error {
	d.before("rename", to)
	return os.Rename(from, to)
}

// remove removes a file, or a folder with all in it; what is not there is fine.
func (d *disk) remove(path string) error {
	d.before("remove", path)
	return os.RemoveAll(path)
}

// syncDir makes what was created, renamed and removed in a folder durable.
func (d *disk) syncDir(path string) error {
	d.before("syncdir", path)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

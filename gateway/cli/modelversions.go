package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"edgegateway/gateway/app"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/store"
)

// versions is the store of a gateway, as a command sees it.
type versions struct {
	*store.Store
	data   string     // folder of the gateway
	config app.Config // of the gateway, where it is known
	known  bool
}

// versions opens the store of the data folder; the caller closes it. Which keys
// are trusted says the configuration: the one that is named, or that of the
// gateway which runs on the folder.
func (f *dataFlags) versions() (*versions, error) { return f.openVersions(store.Open) }

func (f *dataFlags) openVersions(open func(dir string, cfg store.Config) (*store.Store, error)) (*versions, error) {
	v := &versions{config: app.DefaultConfig()}
	var err error
	if v.data, err = f.folder(); err != nil {
		return nil, err
	}
	file := f.config
	if g, err := app.Holder(v.data); err == nil && g != nil && file == "" {
		file = g.Config
	}
	if file != "" {
		if v.config, err = app.LoadConfig(file); err != nil {
			return nil, invalid(err)
		}
		v.known = true
	}
	if v.Store, err = open(store.Dir(v.data), v.config.Store); err != nil {
		return nil, invalid(err)
	}
	v.Pin(v.config.Pinned())
	v.BuildOn(v.config.ModelFiles())
	return v, nil
}

// versionsThere is versions for a command that needs some: it makes no folders.
func (f *dataFlags) versionsThere() (*versions, error) {
	if err := f.there(); err != nil {
		return nil, err
	}
	return f.versions()
}

// versionsToRead is versionsThere for a command that only reads: the disk may
// take nothing.
func (f *dataFlags) versionsToRead() (*versions, error) {
	if err := f.there(); err != nil {
		return nil, err
	}
	return f.openVersions(store.OpenToRead)
}

// there says where there is no store.
func (f *dataFlags) there() error {
	data, err := f.folder()
	if err != nil {
		return err
	}
	if _, err := os.Stat(store.Dir(data)); errors.Is(err, fs.ErrNotExist) {
		return invalid(fmt.Errorf("there are no versions of models in %s; edgegateway model add brings one", data))
	}
	return nil
}

// note says where the audit log did not take what a command did.
func note(to io.Writer, err error) {
	if err != nil {
		fmt.Fprintf(to, "the audit log takes nothing: %v\n", err)
	}
}

// noteEvicted says which versions made room for what the command brought.
func (s *versions) noteEvicted(to io.Writer) {
	for _, ref := range s.Evicted() {
		fmt.Fprintf(to, "%s left the store to make room (store: keep %d, keep_bytes %d)\n", ref, s.config.Store.Keep, s.config.Store.KeepBytes)
		note(to, app.NoteEvicted(s.data, ref, "command"))
	}
}

// ofModel makes errors about what is there, or what was given, those of a model
// that is not right; others are the disk's.
func ofModel(err error) error {
	for _, known := range []error{
		store.ErrUnknown, store.ErrOld, store.ErrTaken, store.ErrKept, store.ErrFull, store.ErrNoWay, store.ErrDamaged,
		store.ErrUnsigned, store.ErrWrongKey, store.ErrSignature, store.ErrTooLarge, pack.ErrNoBase, fs.ErrNotExist,
	} {
		if errors.Is(err, known) {
			return invalid(err)
		}
	}
	return err
}

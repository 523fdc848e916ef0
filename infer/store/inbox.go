package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edgegateway/infer/model/pack"
)

// Dropped is what became of a file that was dropped into the inbox.
type Dropped struct {
	File    string
	Name    string  // of the model, where it was taken
	Version Version // then
	Err     error   // else why not
}

// Inbox is a folder that people and programs drop bundles and models into. It
// is for one goroutine.
type Inbox struct {
	store  *Store
	dir    string
	seen   map[string]fs.FileInfo // at the scan before
	passed map[string]bool        // what is not taken, by name: whether that was told
	news   []Dropped              // of it, not told yet
}

// NewInbox watches a folder for a store; it need not be there yet.
func NewInbox(s *Store, dir string) *Inbox { return &Inbox{store: s, dir: dir} }

// What was refused is kept so many files long, in this folder of the inbox.
const (
	refusedDir  = "refused"
	keptRefused = 20
)

// Scan takes the files that have not changed since the scan before, so that
// none is read while it is copied. What was taken leaves the folder; what was
// refused goes to its folder refused, with a .txt beside it that says why. What
// starts with a dot is left alone, and so are links, folders and files that are
// named otherwise than .bundle, .tflite or .pack: see Passed. The error is about
// the folder; nil where there is none.
func (b *Inbox) Scan(ctx context.Context) ([]Dropped, error) {
	entries, err := os.ReadDir(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		b.seen, b.passed = nil, nil
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	var done []Dropped
	now := map[string]fs.FileInfo{}
	for _, e := range b.pass(entries) {
		info, err := e.Info()
		if err != nil {
			continue // it is gone
		}
		was := b.seen[e.Name()]
		if was == nil || !os.SameFile(was, info) || was.Size() != info.Size() || !was.ModTime().Equal(info.ModTime()) {
			now[e.Name()] = info
			continue
		}
		d := Dropped{File: e.Name()}
		path := filepath.Join(b.dir, e.Name())
		if d.Name, d.Version, d.Err = b.store.AddNamed(ctx, "", path, "inbox"); ctx.Err() != nil {
			return done, nil
		}
		if d.Err == nil {
			err = os.Remove(path)
		} else {
			err = b.refuse(e.Name(), d.Err)
		}
		if err != nil {
			return append(done, d), fmt.Errorf("inbox: %w", err)
		}
		done = append(done, d)
	}
	b.seen = now
	return done, nil
}

// pass notes what of the entries is not taken, and gives the others.
func (b *Inbox) pass(entries []fs.DirEntry) (files []fs.DirEntry) {
	passed := map[string]bool{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.Name() == refusedDir && e.IsDir() {
			continue
		}
		why := leaves(e)
		if why == nil {
			files = append(files, e)
			continue
		}
		told, before := b.passed[e.Name()]
		if before && !told { // at the second look: it may be about to get its name
			b.news = append(b.news, Dropped{File: e.Name(), Err: why})
		}
		passed[e.Name()] = before
	}
	b.passed = passed
	return files
}

// leaves says why the inbox does not take what lies in it, nil where it does.
func leaves(e fs.DirEntry) error {
	switch kind := e.Type(); {
	case kind&fs.ModeSymlink != 0:
		return errors.New("it is a link, and links are not followed; put the file itself here")
	case kind.IsDir():
		return errors.New("it is a folder; put the file itself here")
	case !kind.IsRegular():
		return errors.New("it is no file")
	case !slices.Contains([]string{Ext, ".tflite", pack.Ext}, filepath.Ext(e.Name())):
		return fmt.Errorf("its name does not end in %s, .tflite or %s; rename it if it is one", Ext, pack.Ext)
	}
	return nil
}

// Passed is what lies in the folder and is not taken, with the reason: each once
// as long as it stays, from the second scan on that finds it.
func (b *Inbox) Passed() []Dropped {
	news := b.news
	b.news = nil
	return news
}

// refuse moves a file out of the way.
func (b *Inbox) refuse(name string, why error) error {
	dir := filepath.Join(b.dir, refusedDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".txt"), []byte(why.Error()+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(b.dir, name), filepath.Join(dir, name)); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var reasons []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".txt") {
			reasons = append(reasons, info)
		}
	}
	slices.SortStableFunc(reasons, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, old := range reasons[min(keptRefused, len(reasons)):] {
		err = errors.Join(err, os.Remove(filepath.Join(dir, old.Name())), os.RemoveAll(filepath.Join(dir, strings.TrimSuffix(old.Name(), ".txt"))))
	}
	return err
}

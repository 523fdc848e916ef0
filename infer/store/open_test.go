package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/model/pack"
	"edgegateway/internal/keyfile"
)

// Who looks alone needs no lock and writes nothing, and what would is refused.
func TestOpenToRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, DefaultConfig())
	add(t, s, "door", "1", 1)
	do(t, s.Close())
	do(t, os.Remove(s.path("lock")))
	listing := func() (names []string) {
		do(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			info, _ := d.Info()
			names = append(names, path+info.ModTime().String())
			return err
		}))
		return names
	}
	before := listing()
	r, err := OpenToRead(dir, DefaultConfig())
	do(t, err)
	if st := state(t, r); st.Models["door"].Find("1") == nil {
		t.Errorf("%+v", st)
	}
	if _, err := r.Files("door", "1"); err != nil {
		t.Error(err)
	}
	for _, err := range []error{r.Remove("door", "1"), r.Activate("door", "1", ""), r.GiveUp()} {
		if err == nil || !strings.Contains(err.Error(), "is open for reading alone") {
			t.Errorf("it changes something: %v", err)
		}
	}
	do(t, r.Close())
	if after := listing(); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("there is now\n%s", strings.Join(after, "\n"))
	}
	none := filepath.Join(t.TempDir(), "none")
	r, err = OpenToRead(none, DefaultConfig())
	do(t, err)
	if st := state(t, r); len(st.Models) > 0 {
		t.Errorf("%+v", st)
	}
	if _, err := os.Stat(none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it made a folder: %v", err)
	}
}

// Another configuration counts from the moment on at which it is applied, for
// what comes and for what is there; one that is not right changes nothing.
func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "models"), DefaultConfig())
	add(t, s, "door", "1", 1)
	add(t, s, "gate", "1", 9)
	do(t, s.Activate("door", "1", ""))
	private, public, id, err := keyfile.New()
	do(t, err)
	for name, text := range map[string][]byte{"a.pem": private, "a.pub": public} {
		do(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	cfg := DefaultConfig()
	cfg.Keep, cfg.RequireSigned, cfg.Keys = 3, true, []string{filepath.Join(dir, "none.pub")}
	if _, err := s.Prepare(cfg); err == nil || !strings.HasPrefix(err.Error(), "keys: ") {
		t.Errorf("a key that is not there: %v", err)
	}
	cfg.Keys = []string{filepath.Join(dir, "a.pub")}
	apply, err := s.Prepare(cfg)
	do(t, err)
	if err := s.Want("door", Want{Version: "1", Do: DoActivate}); err != nil || len(s.Untrusted()) > 0 {
		t.Errorf("it counts before it is applied: %v", err)
	}
	apply()
	if err := s.Want("door", Want{Version: "1", Do: DoActivate}); !errors.Is(err, ErrUnsigned) {
		t.Errorf("an unsigned version is taken: %v", err)
	}
	if list := s.Untrusted(); len(list) != 1 || !strings.Contains(list[0].Error(), "model door@1") {
		t.Errorf("what is live and not signed: %v", list)
	}
	s.Pin([]string{"gate@1", "gate@9"})
	if list := s.Untrusted(); len(list) != 2 || !strings.Contains(list[1].Error(), "model gate@1") {
		t.Errorf("live and pinned: %v", list)
	}
	key, err := keyfile.ReadPrivate(filepath.Join(dir, "a.pem"))
	do(t, err)
	for n, version := range []string{"2", "3", "4", "5"} {
		man, parts := aBundle(t, "door", version, n+2)
		v, err := s.Add(t.Context(), "", bundleFile(t, man, parts, key), "test")
		if err != nil || v.Signed != id {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if m := state(t, s).Models["door"]; len(m.Versions) != 3 || m.Find("1") == nil {
		t.Errorf("of keep: 3 are there %+v", m.Versions)
	}
}

// A packed model builds on a file that the configuration names, as on a version.
func TestBuildOn(t *testing.T) {
	dir := t.TempDir()
	old, next := aModel(t, 1), aModel(t, 2)
	man, parts := aBundle(t, "door", "2", 2)
	var err error
	parts[man.Model], err = pack.Pack(next, old)
	do(t, err)
	thin := bundleFile(t, man, parts, nil)
	s := open(t, filepath.Join(dir, "models"), DefaultConfig())
	if _, err := s.Add(t.Context(), "", thin, "test"); !errors.Is(err, pack.ErrNoBase) || !strings.Contains(err.Error(), "nor is it one of the configuration's own files") {
		t.Errorf("without what it builds on: %v", err)
	}
	file := filepath.Join(dir, "door.tflite")
	do(t, os.WriteFile(file, old, 0o600))
	s.BuildOn([]string{filepath.Join(dir, "none.tflite"), file})
	v, err := s.Add(t.Context(), "", thin, "test")
	do(t, err)
	if got, err := s.Content(v.Model); err != nil || !bytes.Equal(got, next) {
		t.Errorf("it is another model: %v", err)
	}
}

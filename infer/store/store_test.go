package store

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLife takes a model through what happens to it: its file becomes version
// 0, bundles come, one is tried and goes live, another fails, it goes back.
func TestLife(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, DefaultConfig())
	first := aModel(t, 0)
	v, err := s.Add(ctx, "door", write(t, "door.tflite", first), FromConfiguration)
	do(t, err)
	if v.Version != "0" || v.Model != sumOf(first) || v.Signed != "" || v.Stage != Added {
		t.Fatalf("the configuration's file became %+v", v)
	}
	do(t, s.Activate("door", "0", "as configured"))
	add(t, s, "door", "2", 2)
	add(t, s, "door", "10", 10)

	do(t, s.Want("door", Want{Version: "2", Do: DoActivate, By: "a test"}))
	do(t, s.Mark("door", "2", Trying, "pre-flight", nil))
	do(t, s.Mark("door", "2", Passed, "", []byte(`{"ok":true}`)))
	do(t, s.Activate("door", "2", "passed its pre-flight"))
	m := state(t, s).Models["door"]
	if m.Live != "2" || m.Previous != "0" || m.Configured != sumOf(first) || m.Want != nil {
		t.Errorf("after the first swap: %+v", m)
	}
	if old := m.Find("0"); old.Stage != Retired || !strings.Contains(old.Why, "version 2") {
		t.Errorf("the old one is %+v", old)
	}
	if report, err := s.Report(*m.Find("2")); err != nil || string(report) != `{"ok":true}` {
		t.Errorf("its report is %s, %v", report, err)
	}

	do(t, s.Want("door", Want{Version: "10", Do: DoRollout}))
	do(t, s.Mark("door", "10", Failed, "golden input 0 is off by 3 steps", []byte(`{"ok":false}`)))
	m = state(t, s).Models["door"]
	if m.Live != "2" || m.Want != nil || m.Find("10").Stage != Failed || !strings.Contains(m.Find("10").Why, "3 steps") {
		t.Errorf("after one that failed: %+v %+v", m, m.Find("10"))
	}

	do(t, s.Want("door", Want{Do: DoRollback}))
	if w := state(t, s).Models["door"].Want; w == nil || w.Version != "0" || w.At.IsZero() {
		t.Fatalf("a rollback wants %+v", w)
	}
	// Somebody wants another meanwhile: that wish is not lost with this one done.
	do(t, s.Want("door", Want{Version: "10", Do: DoActivate, Force: true}))
	do(t, s.Activate("door", "0", "rolled back"))
	m = state(t, s).Models["door"]
	if m.Live != "0" || m.Previous != "2" || m.Want == nil || m.Want.Version != "10" {
		t.Errorf("after the rollback: %+v", m)
	}

	// All of it is on the disk, for another who opens it.
	if diff := cmp.Diff(state(t, s), state(t, open(t, dir, DefaultConfig()))); diff != "" {
		t.Errorf("another reads another state:\n%s", diff)
	}
}

// TestFiles reads back what was added, and finds what was damaged on the disk.
func TestFiles(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig())
	want, parts := aBundle(t, "door", "1", 1)
	path := bundleFile(t, want, parts, nil)
	_, err := s.Add(context.Background(), "", path, "a test")
	do(t, err)
	if _, err := s.Files("door", ""); !errors.Is(err, ErrUnknown) {
		t.Errorf("no version is live, and its files are given: %v", err)
	}
	do(t, s.Activate("door", "1", ""))
	f, err := s.Files("door", "")
	do(t, err)
	if diff := cmp.Diff(want, f.Manifest); diff != "" {
		t.Errorf("manifest:\n%s", diff)
	}
	g := f.Golden[0]
	for file, name := range map[string]string{f.Model: "model.tflite", f.Labels: "labels.txt", f.Reference: "reference.json", g.Inputs[0]: "golden/0/in.bin", g.Outputs[0]: "golden/0/out.bin"} {
		got, err := os.ReadFile(file)
		if err != nil || !filepath.IsAbs(file) || sumOf(got) != sumOf(parts[name]) {
			t.Errorf("%s is %s: %v", name, file, err)
		}
	}
	if f.Accelerated != "" {
		t.Errorf("it has no accelerated model, and %s is one", f.Accelerated)
	}

	do(t, os.WriteFile(f.Labels, []byte("of\non\n"), 0o600))
	if _, err := s.Files("door", "1"); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "labels.txt") {
		t.Errorf("damaged labels: %v", err)
	}
	if _, err := s.Add(context.Background(), "door", path, "a test"); err != nil {
		t.Errorf("added again: %v", err)
	}
	if _, err := s.Files("door", "1"); err != nil {
		t.Errorf("after it was added again: %v", err)
	}
}

// TestPlain adds models without a bundle: each gets the next version, the same
// one its own again.
func TestPlain(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), DefaultConfig())
	for _, c := range []struct {
		name    string
		n       int
		from    string
		version string
	}{
		{"", 1, "", "1"},
		{"door", 2, "", "2"},
		{"door", 1, "", "1"},
		{"door@7.1", 3, "", "7.1"},
		{"door@7.1", 3, "", "7.1"},
		{"door", 4, "", "8"},
		{"door", 1, FromConfiguration, "0"},
		{"door", 1, FromConfiguration, "0"},
	} {
		v, err := s.Add(ctx, c.name, write(t, "door.tflite", aModel(t, c.n)), c.from)
		if err != nil || v.Version != c.version {
			t.Errorf("%q number %d is version %s, not %s: %v", c.name, c.n, v.Version, c.version, err)
		}
	}
	s2 := open(t, t.TempDir(), DefaultConfig())
	for i, version := range []string{"0", "0.1", "0.2"} {
		v, err := s2.Add(ctx, "door", write(t, "x.tflite", aModel(t, i)), FromConfiguration)
		if err != nil || v.Version != version {
			t.Errorf("the configuration's file number %d is version %s: %v", i, v.Version, err)
		}
	}
	if _, err := s.Add(ctx, "door@7.1", write(t, "door.tflite", aModel(t, 9)), ""); !errors.Is(err, ErrTaken) {
		t.Errorf("another model under the same version: %v", err)
	}
	if _, err := s.Add(ctx, "door@0.5", write(t, "door.tflite", aModel(t, 9)), ""); err == nil {
		t.Error("a version of the configuration was given to another file")
	}
}

// TestKeep holds the bounds: what leaves, and that what is live and what was
// before never does.
func TestKeep(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Keep = 4
	dir := t.TempDir()
	s := open(t, dir, cfg)
	versions := func() (list []string) {
		for _, v := range state(t, s).Models["door"].Versions {
			list = append(list, v.Version)
		}
		return list
	}
	for i, v := range []string{"1", "2", "3", "4"} {
		add(t, s, "door", v, i)
	}
	do(t, s.Activate("door", "1", ""))
	do(t, s.Activate("door", "2", ""))
	do(t, s.Mark("door", "4", Failed, "too slow", nil))
	add(t, s, "door", "5", 5)
	if got := versions(); !slices.Equal(got, []string{"1", "2", "3", "5"}) {
		t.Errorf("what failed goes first; there are %v", got)
	}
	add(t, s, "door", "6", 6)
	if got := versions(); !slices.Equal(got, []string{"1", "2", "5", "6"}) {
		t.Errorf("then the oldest; there are %v", got)
	}
	if got := s.Evicted(); !slices.Equal(got, []string{"door@4", "door@3"}) || len(s.Evicted()) > 0 {
		t.Errorf("told are %v", got)
	}
	do(t, s.Want("door", Want{Version: "5", Do: DoActivate}))
	do(t, s.Mark("door", "6", Shadow, "", nil))
	m, parts := aBundle(t, "door", "7", 7)
	if _, err := s.Add(context.Background(), "", bundleFile(t, m, parts, nil), ""); !errors.Is(err, ErrFull) {
		t.Errorf("with four that must stay: %v", err)
	}
	for _, c := range []struct {
		version string
		err     error
		say     string
	}{{"1", ErrKept, ""}, {"2", ErrKept, ""}, {"6", nil, "at work"}, {"9", ErrUnknown, "there are 1, 2, 5, 6"}} {
		if err := s.Remove("door", c.version); err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("remove %s: %v", c.version, err)
		}
	}
	do(t, s.Remove("door", "5"))
	if m := state(t, s).Models["door"]; m.Want != nil {
		t.Errorf("what is gone is wanted still: %+v", m.Want)
	}
	// No file is left of those that went.
	want := map[string]bool{}
	for _, v := range state(t, s).Models["door"].Versions {
		f, err := s.Files("door", v.Version)
		do(t, err)
		want[v.Manifest] = true
		for _, p := range f.Manifest.Files {
			want[p.SHA256] = true
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "files"))
	do(t, err)
	for _, e := range entries {
		if !want[e.Name()] {
			t.Errorf("%s is nobody's", e.Name())
		}
	}
	if len(entries) != len(want) {
		t.Errorf("there are %d files of %d", len(entries), len(want))
	}
}

// TestKeepBytes bounds the bytes of all models together.
func TestKeepBytes(t *testing.T) {
	m, _ := aBundle(t, "a", "1", 1)
	cfg := DefaultConfig()
	cfg.KeepBytes = 3*m.Bytes() + 100
	s := open(t, t.TempDir(), cfg)
	add(t, s, "a", "1", 1)
	add(t, s, "a", "2", 2)
	do(t, s.Activate("a", "1", ""))
	add(t, s, "b", "1", 3)
	do(t, s.Activate("b", "1", ""))
	add(t, s, "b", "2", 4)
	st := state(t, s)
	if len(st.Models["a"].Versions) != 1 || len(st.Models["b"].Versions) != 2 || st.bytes() > cfg.KeepBytes {
		t.Errorf("of a are there %d, of b %d versions, of %d bytes", len(st.Models["a"].Versions), len(st.Models["b"].Versions), st.bytes())
	}
	do(t, s.Activate("b", "2", ""))
	man, parts := aBundle(t, "c", "1", 5)
	if _, err := s.Add(context.Background(), "", bundleFile(t, man, parts, nil), ""); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "keep_bytes") {
		t.Errorf("with nothing that may go: %v", err)
	}
}

// TestMinimum lets nobody go back below a version that was live and forbids it,
// but the owner with the configuration's file.
func TestMinimum(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), DefaultConfig())
	_, err := s.Add(ctx, "door", write(t, "x.tflite", aModel(t, 0)), FromConfiguration)
	do(t, err)
	do(t, s.Activate("door", "0", ""))
	add(t, s, "door", "2", 2)
	m, parts := aBundle(t, "door", "3", 3)
	m.Minimum = "3"
	_, err = s.Add(ctx, "", bundleFile(t, m, parts, nil), "")
	do(t, err)
	add(t, s, "door", "2.9", 4) // nobody forbids it before 3 is live
	do(t, s.Activate("door", "3", ""))
	for _, w := range []Want{{Version: "2", Do: DoActivate}, {Version: "2", Do: DoRollout, Force: true}, {Version: "2", Do: DoRollback}} {
		if err := s.Want("door", w); !errors.Is(err, ErrOld) {
			t.Errorf("%+v: %v", w, err)
		}
	}
	if err := s.Activate("door", "2", ""); !errors.Is(err, ErrOld) {
		t.Errorf("activate 2: %v", err)
	}
	if _, err := s.Add(ctx, "door@2.10", write(t, "x.tflite", aModel(t, 5)), ""); !errors.Is(err, ErrOld) {
		t.Errorf("add 2.10: %v", err)
	}
	_, err = s.Add(ctx, "door", write(t, "x.tflite", aModel(t, 6)), FromConfiguration)
	do(t, err)
	do(t, s.Activate("door", "0.1", "the owner changed the file"))
	if err := s.Want("door", Want{Version: "2", Do: DoActivate}); !errors.Is(err, ErrOld) {
		t.Errorf("the minimum is forgotten: %v", err)
	}
}

// TestWayBack goes back to the version before one that brought a minimum, to no
// older one, and to none that was found wanting.
func TestWayBack(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), DefaultConfig())
	for i, v := range []string{"1", "2"} {
		add(t, s, "door", v, i)
		do(t, s.Activate("door", v, ""))
	}
	m, parts := aBundle(t, "door", "3", 3)
	m.Minimum = "3"
	_, err := s.Add(ctx, "", bundleFile(t, m, parts, nil), "")
	do(t, err)
	do(t, s.Activate("door", "3", ""))
	if err := s.Want("door", Want{Version: "1", Do: DoRollback}); !errors.Is(err, ErrOld) {
		t.Errorf("further back than the one before: %v", err)
	}
	do(t, s.Want("door", Want{Do: DoRollback}))
	do(t, s.Activate("door", "2", "rolled back by command"))
	do(t, s.Activate("door", "2", "it was live already"))
	if st := state(t, s).Models["door"]; st.Live != "2" || st.Previous != "3" || st.Want != nil || st.Minimum != "3" {
		t.Errorf("%+v", st)
	}
	if err := s.Activate("door", "1", ""); !errors.Is(err, ErrOld) {
		t.Errorf("activate 1: %v", err)
	}
	for _, stage := range []Stage{Failed, Withdrawn} {
		do(t, s.Mark("door", "3", stage, "it saw cats everywhere", nil))
		if err := s.Want("door", Want{Do: DoRollback}); !errors.Is(err, ErrNoWay) || !strings.Contains(err.Error(), "door@3, which ") || !strings.Contains(err.Error(), "cats everywhere") {
			t.Errorf("back to one that is %s: %v", stage, err)
		}
	}
	do(t, s.Want("door", Want{Version: "3", Do: DoActivate}))
}

// TestPinned keeps a version that a stream is pinned to.
func TestPinned(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Keep = 3
	s := open(t, t.TempDir(), cfg)
	add(t, s, "door", "1", 1)
	s.Pin([]string{"door@1", "gate@2"})
	for i, v := range []string{"2", "3", "4"} {
		add(t, s, "door", v, 2+i)
	}
	if m := state(t, s).Models["door"]; m.Find("1") == nil || m.Find("2") != nil {
		t.Errorf("kept are %+v", m.Versions)
	}
	if err := s.Remove("door", "1"); err == nil || !strings.Contains(err.Error(), "a stream is pinned to it") {
		t.Errorf("removed: %v", err)
	}
	s.Pin(nil)
	do(t, s.Remove("door", "1"))
}

// TestNone says by name what is not there.
func TestNone(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig())
	for what, err := range map[string]error{
		"want": s.Want("door", Want{Version: "1", Do: DoActivate}), "rollback": s.Want("door", Want{Do: DoRollback}),
		"activate": s.Activate("door", "1", ""), "mark": s.Mark("door", "1", Failed, "", nil), "remove": s.Remove("door", "1"),
	} {
		if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "door") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := s.Add(context.Background(), "", filepath.Join(t.TempDir(), "no.bundle"), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := s.Want("door", Want{Version: "1", Do: "explode"}); err == nil {
		t.Error("a wish that nobody knows is taken")
	}
	if err := s.Mark("door", "1", Live, "", nil); err == nil {
		t.Error("live is marked")
	}
}

// TestOwner lets root bring a version into the folder of a gateway that has no
// rights: everything belongs to the gateway.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	data := t.TempDir()
	const gateway = 4711
	if err := os.Chown(data, gateway, gateway); errors.Is(err, fs.ErrPermission) {
		t.Skip("only root gives files away, and that of this container may not")
	} else if err != nil {
		t.Fatal(err)
	}
	s := open(t, Dir(data), DefaultConfig())
	add(t, s, "door", "1", 1)
	do(t, s.Activate("door", "1", ""))
	add(t, s, "door", "2", 2)
	do(t, s.Mark("door", "2", Failed, "", []byte("{}")))
	n := 0
	do(t, filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		do(t, err)
		info, err := d.Info()
		do(t, err)
		if st := info.Sys().(*syscall.Stat_t); st.Uid != gateway || st.Gid != gateway {
			t.Errorf("%s belongs to %d", path, st.Uid)
		}
		n++
		return nil
	}))
	if n < 15 {
		t.Errorf("only %d files", n)
	}
}

// TestDamagedState names the file, and touches nothing.
func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, DefaultConfig())
	add(t, s, "door", "1", 1)
	do(t, os.WriteFile(s.path("state.json"), []byte(`{"format":1,"models":{"door":{"live":"9"`), 0o600))
	before, err := os.ReadDir(s.path("files"))
	do(t, err)
	if _, err := s.State(); !errors.Is(err, ErrDamaged) {
		t.Errorf("the state: %v", err)
	}
	if err := s.Activate("door", "1", ""); !errors.Is(err, ErrDamaged) {
		t.Errorf("a change: %v", err)
	}
	if _, err := Open(dir, DefaultConfig()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "state.json") {
		t.Errorf("opened: %v", err)
	}
	after, err := os.ReadDir(s.path("files"))
	do(t, err)
	if len(after) != len(before) {
		t.Errorf("of %d files are %d left", len(before), len(after))
	}
}

// TestAnew goes on where the state is damaged: it is kept, and so is each file;
// versions that are whole are found again, with the signatures of known keys.
func TestAnew(t *testing.T) {
	key, public := aKey(t)
	foreign, _ := aKey(t)
	cfg := DefaultConfig()
	cfg.Keys = []string{public}
	dir := t.TempDir()
	s := open(t, dir, cfg)
	_, err := s.Add(context.Background(), "door", write(t, "x.tflite", aModel(t, 0)), FromConfiguration)
	do(t, err)
	add(t, s, "door", "1", 1)
	for version, k := range map[string]ed25519.PrivateKey{"2": key, "10": key} {
		m, parts := aBundle(t, "door", version, len(version))
		_, err := s.Add(context.Background(), "", bundleFile(t, m, parts, k), "")
		do(t, err)
	}
	m, parts := aBundle(t, "gate", "1", 7)
	if _, err := s.Add(context.Background(), "", bundleFile(t, m, parts, foreign), ""); !errors.Is(err, ErrWrongKey) {
		t.Fatal(err)
	}
	m, parts = aBundle(t, "gate", "2", 8)
	_, err = s.Add(context.Background(), "", bundleFile(t, m, parts, nil), "")
	do(t, err)
	do(t, s.Activate("door", "2", ""))
	was := state(t, s)
	f, err := s.Files("gate", "2")
	do(t, err)
	do(t, os.WriteFile(f.Model, []byte("worms"), 0o600)) // this one is damaged too
	files := func() int {
		entries, err := os.ReadDir(filepath.Join(dir, "files"))
		do(t, err)
		return len(entries)
	}
	n := files()
	for round, text := range []string{`{"format":1,"models":{"door":{"live":"9"`, "", strings.Repeat("\x00", maxState+1)} {
		do(t, os.WriteFile(filepath.Join(dir, "state.json"), []byte(text), 0o600))
		s, err := OpenAnew(dir, cfg)
		do(t, err)
		st := state(t, s)
		door := st.Models["door"]
		if len(st.Models) != 1 || door.Live != "" || len(door.Versions) != 4 || files() != n {
			t.Fatalf("%+v, and %d files of %d", door, files(), n)
		}
		for i, v := range door.Versions {
			old := was.Models["door"].Versions[i]
			if v.Version != old.Version || v.Manifest != old.Manifest || v.Signed != old.Signed || v.Bytes != old.Bytes || (v.From == FromConfiguration) != (old.From == FromConfiguration) || v.Stage != Added {
				t.Errorf("%+v, it was %+v", v, old)
			}
			if _, err := s.Files("door", v.Version); err != nil {
				t.Error(err)
			}
		}
		if aside := s.Aside(); len(aside) != round+1 {
			t.Errorf("aside are %v", aside)
		} else if kept, err := os.ReadFile(aside[round]); err != nil || string(kept) != text {
			t.Errorf("kept are %d bytes of %d, %v", len(kept), len(text), err)
		}
		do(t, s.Activate("door", "10", ""))
		do(t, s.Close())
	}
	for _, path := range open(t, dir, cfg).Aside() {
		do(t, os.Remove(path))
	}
	if open(t, dir, cfg); files() >= n {
		t.Errorf("all %d files are there still", n)
	}
}

// The version beside the live one is the one in a stage, where there is one.
func TestBeside(t *testing.T) {
	st := State{Models: map[string]*ModelState{
		"none": {Versions: []Version{{Version: "1", Stage: Live}}},
		"one":  {Versions: []Version{{Version: "1", Stage: Live}, {Version: "2", Stage: Shadow}}},
		"two":  {Versions: []Version{{Version: "2", Stage: Shadow}, {Version: "3", Stage: Canary}}},
	}}
	for ref, want := range map[string]string{
		"one": "2", "one@2": "2", "two@3": "3",
		"none": "no version is beside", "one@1": "beside the live one is 2", "two": "beside the live one is 2, 3", "no": ErrUnknown.Error(),
	} {
		name, version, err := ParseRef(ref)
		if err != nil {
			t.Fatal(err)
		}
		got, err := st.Beside(name, version)
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%s: %s, want %s", ref, got, want)
		}
	}
}

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInbox drops files: what is whole is taken, what is refused lies aside with
// the reason, what grows is waited for, and the rest is told once.
func TestInbox(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), DefaultConfig())
	dir := filepath.Join(t.TempDir(), "inbox")
	in := NewInbox(s, dir)
	scan := func() []Dropped {
		t.Helper()
		list, err := in.Scan(ctx)
		do(t, err)
		return list
	}
	if got := scan(); got != nil {
		t.Errorf("of a folder that is not there: %v", got)
	}
	do(t, os.Mkdir(dir, 0o755))
	drop := func(name string, data []byte) { do(t, os.WriteFile(filepath.Join(dir, name), data, 0o600)) }
	m, parts := aBundle(t, "door", "2", 2)
	bundle, err := os.ReadFile(bundleFile(t, m, parts, nil))
	do(t, err)
	drop("anything.bundle", bundle)
	drop("gate.tflite", aModel(t, 1))
	drop("gate@7.tflite", aModel(t, 2))
	drop("broken.tflite", []byte("this is no model"))
	drop("notes.txt", []byte("hello"))
	drop(".anything.bundle.part", bundle)
	drop("growing.tflite", aModel(t, 3)[:100])
	outside := write(t, "secret.tflite", aModel(t, 4))
	do(t, os.Symlink(outside, filepath.Join(dir, "link.tflite")))
	if got := scan(); got != nil {
		t.Errorf("at the first look: %v", got)
	}
	drop("growing.tflite", aModel(t, 3)[:300])
	got := map[string]Dropped{}
	for _, d := range scan() {
		got[d.File] = d
	}
	for file, want := range map[string]string{"anything.bundle": "door@2", "gate.tflite": "gate@1", "gate@7.tflite": "gate@7"} {
		if d := got[file]; d.Err != nil || d.Name+"@"+d.Version.Version != want || d.Version.From != "inbox" {
			t.Errorf("%s became %s@%s: %v", file, d.Name, d.Version.Version, d.Err)
		}
	}
	if d := got["broken.tflite"]; !errors.Is(d.Err, ErrDamaged) {
		t.Errorf("no model: %v", d.Err)
	}
	if len(got) != 4 {
		t.Errorf("at the second look: %v", got)
	}
	why, err := os.ReadFile(filepath.Join(dir, "refused", "broken.tflite.txt"))
	if err != nil || !strings.Contains(string(why), "damaged") {
		t.Errorf("the reason is %q: %v", why, err)
	}
	drop("growing.tflite", aModel(t, 3))
	scan()
	if list := scan(); len(list) != 1 || list[0].Name != "growing" {
		t.Errorf("when it stopped to grow: %v", list)
	}
	var passed []string
	for _, d := range in.Passed() {
		passed = append(passed, d.File+": "+d.Err.Error())
	}
	if got := strings.Join(passed, "\n"); got != "link.tflite: it is a link, and links are not followed; put the file itself here\n"+
		"notes.txt: its name does not end in .bundle, .tflite or .pack; rename it if it is one" {
		t.Errorf("passed over are\n%s", got)
	}
	do(t, os.Remove(filepath.Join(dir, "notes.txt")))
	scan()
	if list := in.Passed(); list != nil {
		t.Errorf("told again: %v", list)
	}
	drop("notes.txt", []byte("hello"))
	do(t, os.Mkdir(filepath.Join(dir, "folder.bundle"), 0o700))
	scan()
	scan()
	if list := in.Passed(); len(list) != 2 || list[0].File != "folder.bundle" || list[1].File != "notes.txt" {
		t.Errorf("what came anew: %v", list)
	}
	do(t, os.Remove(filepath.Join(dir, "folder.bundle")))
	left, err := os.ReadDir(dir)
	do(t, err)
	if len(left) != 4 { // the note, the hidden file, the link, and the folder of what was refused
		t.Errorf("left are %v", left)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

// TestInboxBounded keeps the newest of what was refused.
func TestInboxBounded(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig())
	dir := t.TempDir()
	in := NewInbox(s, dir)
	for i := range keptRefused + 5 {
		do(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("m%d.bundle", i)), []byte("no bundle"), 0o600))
	}
	for range 2 {
		if _, err := in.Scan(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, refusedDir))
	do(t, err)
	if len(left) != 2*keptRefused {
		t.Errorf("%d files of what was refused are left, not %d with their reasons", len(left), keptRefused)
	}
}

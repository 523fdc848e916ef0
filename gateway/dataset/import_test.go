package dataset

import (
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What an import that was killed left is no set, and goes with the next import;
// what another still writes to stays.
func TestImportRemovesKilled(t *testing.T) {
	data, from := t.TempDir(), t.TempDir()
	killed, running := Dir(data, "x")+"/../.import-1", Dir(data, "x")+"/../.import-2"
	for _, dir := range []string{killed, running} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, dir, pair, plenty, values(1))
	}
	f, err := lock(running)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if list, err := List(data); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
	whole := jpegOf(t, 40, 30, color.White)
	if err := os.Mkdir(filepath.Join(from, "cat"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"whole.jpg": whole, "short.jpg": whole[:len(whole)/2]} {
		if err := os.WriteFile(filepath.Join(from, "cat", name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n, refused, err := ImportFolder(data, "cats", from, nil)
	if err != nil || n != 1 || len(refused) != 1 || !strings.Contains(refused[0], "short.jpg") {
		t.Errorf("%d %v %v", n, refused, err)
	}
	for dir, there := range map[string]bool{killed: false, running: true, Dir(data, "cats"): true} {
		if _, err := os.Stat(dir); (err == nil) != there {
			t.Errorf("%s is there: %v", dir, err == nil)
		}
	}
	if _, _, err := ImportFolder(data, "none", t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "there is no folder with pictures") {
		t.Errorf("%v", err)
	}
}

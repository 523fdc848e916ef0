package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Models of different sizes of pictures stand side by side, each fed at its
// own; two of one name are told apart by their folders, and of a folder of
// pictures only those are read that --samples takes.
func TestEvaluateSizes(t *testing.T) {
	dir := t.TempDir()
	data := folders(t, dir, 20, 24, 24)
	var files []string
	for _, size := range []string{"12x12x1", "16x16x3"} {
		if err := os.Mkdir(filepath.Join(dir, size), 0o700); err != nil {
			t.Fatal(err)
		}
		files = append(files, filepath.Join(dir, size, "m.tflite"))
		done(t, "", "train", "--data", data, "--size", size, "--network", "mlp", "--epochs", "2", "--out", files[len(files)-1])
	}
	for class, name := range []string{"across", "upright"} {
		for i := range 20 {
			if (20*class+i)%10 != 0 {
				write(t, filepath.Join(data, name), fmt.Sprintf("%03d.png", i), "no picture")
			}
		}
	}
	r := run(t, "", append([]string{"evaluate", "--no-latency", "--samples", "4", "--format", "json", "--data", data}, files...)...)
	var list []struct {
		Name      string
		Quality   struct{ Samples int }
		Agreement *struct {
			Samples int
			Classes bool
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || r.code != 0 || len(list) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if a := list[1].Agreement; list[0].Quality.Samples != 4 || a == nil || a.Samples != 4 || !a.Classes {
		t.Errorf("%s", r.stdout)
	}
	if list[0].Name == list[1].Name || !strings.HasSuffix(list[1].Name, filepath.Join("16x16x3", "m")) {
		t.Errorf("names %q and %q", list[0].Name, list[1].Name)
	}
	if strings.Contains(r.stderr, "left out") {
		t.Errorf("pictures were read that nobody asked for: %s", r.stderr)
	}
}

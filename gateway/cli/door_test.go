package cli_test

import (
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/gateway/cli"
	"edgegateway/internal/testkit"
)

// The pictures at the door: six seconds with faces, six without, in turn. In
// those with faces the detector is sure of one, and in those without it finds
// none even where it is asked for much less than the demonstration asks for.
func TestDoorPictures(t *testing.T) {
	model := testkit.Cached(t, "demo/face_detection_short_range.tflite")
	dir := t.TempDir()
	if err := cli.DoorPictures(filepath.Dir(model), dir); err != nil {
		t.Fatal(err)
	}
	pictures, err := filepath.Glob(filepath.Join(dir, "*.jpg"))
	if err != nil || len(pictures) != 36 {
		t.Fatal(len(pictures), err)
	}
	for threshold, somebody := range map[string]bool{"0.6": true, "0.25": false} {
		args := []string{"model", "run", "--threshold", threshold, model}
		for n, path := range pictures {
			if n/6%2 == 0 == somebody {
				args = append(args, path)
			}
		}
		said := strings.Split(strings.TrimSpace(done(t, "", args...)), "\n/")
		if len(said) != 18 {
			t.Errorf("%d pictures: %s", len(said), said)
		}
		for _, picture := range said {
			if strings.Contains(picture, "  face ") != somebody {
				t.Errorf("threshold %s: %s", threshold, picture)
			}
		}
	}
}

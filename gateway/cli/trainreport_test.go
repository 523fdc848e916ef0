package cli

import (
	"os"
	"path/filepath"
	"testing"

	"edgegateway/infer/compress"
	"edgegateway/infer/train"
)

// A confusion matrix is drawn where somebody can read it.
func TestReportDraws(t *testing.T) {
	for classes, drawn := range map[int]bool{2: true, maxDrawn: true, maxDrawn + 1: false} {
		tr := &training{out: filepath.Join(t.TempDir(), "m.tflite"), learn: &train.Dataset{Classes: make([]string, classes)}}
		q := &compress.Quality{Task: compress.Classes, Confused: make([][]int, classes)}
		for i := range q.Confused {
			q.Confused[i] = make([]int, classes)
		}
		if _, err := tr.report([]train.Epoch{{Epoch: 1, Loss: 1}}, q, nil); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]bool{"m.confusion.svg": drawn, "m.curves.svg": true, "m.metrics.json": true} {
			if _, err := os.Stat(filepath.Join(filepath.Dir(tr.out), name)); (err == nil) != want {
				t.Errorf("%d classes: %s is there: %v", classes, name, err == nil)
			}
		}
	}
}

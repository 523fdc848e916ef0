package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgegateway/infer/compress"
	"edgegateway/infer/model"
	"edgegateway/internal/testkit"
)

// trained runs the command and gives what stands in the metrics file.
func trained(t *testing.T, args ...string) (*compress.Quality, string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "it.tflite")
	if code := Run(t.Context(), "test", append([]string{"train", "--out", out}, args...)); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	text, err := os.ReadFile(strings.TrimSuffix(out, ".tflite") + ".metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Test compress.Quality }
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(out + ".checkpoint"); err == nil {
		t.Error("the checkpoint of a finished training is still there")
	}
	for _, name := range []string{".curves.svg", ".curves.png"} {
		if info, err := os.Stat(strings.TrimSuffix(out, ".tflite") + name); err != nil || info.Size() < 500 {
			t.Errorf("%s: %v", name, err)
		}
	}
	return &m.Test, out
}

// Occupied or not, learned on the published training file and judged on the
// published test file, by the exported model in the runtime.
func TestTrainOccupancy(t *testing.T) {
	data, test := testkit.Shared(t, "data/occupancy_train.csv"), testkit.Shared(t, "data/occupancy_test.csv")
	for _, c := range []struct {
		name  string
		args  []string
		least float64
	}{
		{"all", nil, 0.97},
		{"without light", []string{"--drop", "Light"}, 0.6},
		{"int8", []string{"--aware", "2"}, 0.96},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, out := trained(t, append([]string{"--data", data, "--test", test, "--target", "Occupancy", "--epochs", "5"}, c.args...)...)
			info, err := os.Stat(out)
			if err != nil || info.Size() > 20000 {
				t.Errorf("%v, %v", info.Size(), err)
			}
			t.Logf("%.2f %% right, %d bytes", 100*q.Top1, info.Size())
			if q.Samples != 2665 || q.Top1 < c.least {
				t.Errorf("%d samples, %v right", q.Samples, q.Top1)
			}
		})
	}
}

// Ctrl-C leaves the best so far and a checkpoint; going on needs the word.
func TestTrainStopped(t *testing.T) {
	out := filepath.Join(t.TempDir(), "it.tflite")
	args := []string{"train", "--data", testkit.Shared(t, "data/occupancy_train.csv"), "--target", "Occupancy", "--epochs", "1000", "--out", out}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- Run(ctx, "test", args) }()
	untilThere(t, out+".checkpoint")
	stop()
	if code := <-done; code != exitFailed {
		t.Fatalf("exit code %d", code)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := m.Labels(); err != nil || len(l) != 2 {
		t.Errorf("labels %v, %v", l, err)
	}
	if code := Run(t.Context(), "test", args); code != exitUsage {
		t.Errorf("begun anew over a checkpoint: exit code %d", code)
	}
}

func TestTrainRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good.csv", "a,b,c\n"+strings.Repeat("1,2,x\n2,3,y\n", 20))
	for name, args := range map[string][]string{
		"no data":          {},
		"a missing file":   {"--data", filepath.Join(dir, "none.csv")},
		"a torn table":     {"--data", file("torn.csv", "a,b\n1\n\"")},
		"no such target":   {"--data", good, "--target", "d"},
		"an odd network":   {"--data", good, "--target", "c", "--network", "resnet"},
		"a damaged spec":   {"--data", good, "--target", "c", "--network", file("net.yaml", "layers: [{type: dense, unit: 3}]")},
		"a damaged model":  {"--data", good, "--target", "c", "--head", file("bad.tflite", "TFL3")},
		"a split of all":   {"--data", good, "--target", "c", "--split", "1"},
		"a negative rate":  {"--data", good, "--target", "c", "--rate", "-1"},
		"other test data":  {"--data", good, "--target", "c", "--test", file("other.csv", "a,d,c\n1,2,x\n2,3,y\n")},
		"aware with head":  {"--data", good, "--head", "x.tflite", "--aware", "1"},
		"a bad checkpoint": {"--data", good, "--target", "c", "--resume", "--checkpoint", file("state", "nothing")},
	} {
		if code := Run(t.Context(), "test", append([]string{"train", "--out", filepath.Join(dir, "o.tflite")}, args...)); code != exitUsage && code != exitInvalid {
			t.Errorf("%s: exit code %d", name, code)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "o.tflite")); err == nil {
		t.Error("a refused training wrote a model")
	}
}

func untilThere(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", path)
		}
	}
}

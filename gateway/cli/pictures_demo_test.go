package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgegateway/internal/testkit"
)

// Ctrl-C while the demonstration trains its model leaves neither a process nor
// a file behind, and who asks twice, as make does, does not kill it; where the digits are missing, the rest is shown.
func TestDemoTraining(t *testing.T) {
	pictures := filepath.Dir(testkit.Cached(t, "demo/face_detection_short_range.tflite"))
	mnist := filepath.Dir(testkit.Cached(t, "mnist/data"))
	for _, c := range []struct{ name, until string }{
		{"stopped", `train +60000 samples to learn from`},
		{"no digits", `digits +not shown: MNIST is not there; use: make run$`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache, tmp, mark := t.TempDir(), t.TempDir(), "EDGEGATEWAY_TEST_MARK="+filepath.Base(t.TempDir())+c.name
			if err := os.Symlink(pictures, filepath.Join(cache, "demo")); err != nil {
				t.Fatal(err)
			}
			if c.name == "stopped" {
				if err := os.Symlink(mnist, filepath.Join(cache, "mnist")); err != nil {
					t.Fatal(err)
				}
			}
			cmd := testkit.Command(t, "demo", "--configs", filepath.Join(testkit.Root(t), "configs"), "--cache", cache)
			cmd.Env = append(cmd.Env, "TMPDIR="+tmp, mark)
			p := testkit.Start(t, cmd)
			p.Line(c.until)
			began := len(withEnvironment(t, mark))
			p.Signal(syscall.SIGINT)
			for late := time.Now().Add(time.Minute); len(withEnvironment(t, mark)) >= began && time.Now().Before(late); {
				time.Sleep(time.Millisecond)
			}
			p.Signal(syscall.SIGTERM) // while it ends what it started
			if code := p.Exit(); code != 0 {
				t.Errorf("exit code %d:\n%s", code, p.Output())
			}
			p.Line(`stopped +the cloud had received [1-9]\d* results?`)
			// It was cut short: what comes behind training did not come.
			if strings.Contains(p.Output(), " quantize ") {
				t.Errorf("the training went on:\n%s", p.Output())
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("files left behind: %v %v", left, err)
			}
			for _, pid := range withEnvironment(t, mark) {
				t.Errorf("process %s is left", pid)
			}
		})
	}
}

package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// Bench measures gateway and echo on every way it can, and says what the
// program costs at rest.
func TestBench(t *testing.T) {
	sine, sound := testkit.Shared(t, "models/hello_world_float.tflite"), testkit.Shared(t, "models/ad01_fp32.tflite")
	person, photo := testkit.Shared(t, "models/vww_96_int8.tflite"), testkit.Shared(t, "data/pets.jpg")
	short := []string{"--seconds", "1ms", "--rounds", "1", "--publishers", "2", "--rate", "0"}
	for name, tt := range map[string]struct {
		args []string
		want []string
	}{
		"raw":     {[]string{"--model", sine, "--qos", "0,1"}, []string{`(?m)^ +QoS 1 `, `payload 4 bytes`}},
		"json":    {[]string{"--model", sound, "--output", "reconstruction", "--json", "--qos", "1"}, []string{`payload \d{4,} bytes`}},
		"picture": {[]string{"--model", person, "--picture", photo, "--qos", "0"}, []string{`(?m)^.*loops`}},
	} {
		t.Run(name, func(t *testing.T) {
			out := done(t, "", append(append([]string{"bench"}, tt.args...), short...)...)
			for _, want := range append(tt.want, `(?m)^ +echo +2 +[1-9]\d* +1\.00 `, `(?m)^ +gateway +2 +[1-9]\d* +\d+\.\d\d +1\.00 x `, `delegate \S`) {
				if !regexp.MustCompile(want).MatchString(out) {
					t.Errorf("no %s in\n%s", want, out)
				}
			}
			m := regexp.MustCompile(`(?m)^at rest: program [\d.]+ MB, resident (\d+) MB with the model loaded, no traffic yet\ncold start to first result: \d+\.\d\d s$`).FindStringSubmatch(out)
			if m == nil {
				t.Fatalf("nothing of the cost at rest in\n%s", out)
			}
			if mb, err := strconv.Atoi(m[1]); err != nil || mb < 5 {
				t.Errorf("resident %s MB", m[1])
			}
		})
	}
	for args, want := range map[string]string{
		"": "--model is missing",
		"--model " + filepath.Join(t.TempDir(), "gone"):                    "gone: no such file",
		"--model " + sine + " --picture " + photo + " --size wide":         `--size: "wide" is no size`,
		"--model " + sine + " --peer tcp://127.0.0.1:1 --peer-pids 1,that": `--peer-pids: "that" is no process id`,
		"--model " + sine + " --output kittens":                            "kittens",
	} {
		if got := run(t, "", append([]string{"bench"}, strings.Fields(args)...)...); got.code == 0 || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %d %s", args, got.code, got.stderr)
		}
	}
}

// With the demonstration's models loaded and no traffic the program takes
// less than 40 MB.
func TestCostAtRest(t *testing.T) {
	status := "/proc/self/status"
	if _, err := os.Stat(status); err != nil {
		t.Skipf("this system does not tell the memory of a process: %v", err)
	}
	program := build(t, testkit.Root(t), runtime.GOOS, runtime.GOARCH)
	t.Setenv("EDGEGATEWAY_DEMO_MODEL", testkit.Cached(t, "demo/face_detection_short_range.tflite"))
	t.Setenv("EDGEGATEWAY_DEMO_DATA", t.TempDir())
	web := testkit.FreeAddr(t)
	t.Setenv("EDGEGATEWAY_DEMO_BROKER", testkit.FreeAddr(t))
	t.Setenv("EDGEGATEWAY_DEMO_HTTP", web)
	t.Setenv("EDGEGATEWAY_DEMO_CLOUD", "tcp://"+testkit.FreeAddr(t))
	cmd := exec.Command(program, "run", "--config", filepath.Join(testkit.Root(t), "configs/demo.yaml"))
	p := testkit.Start(t, cmd)
	p.Line(`the cloud is away`)
	for { // until the trial is over
		if got := run(t, "", "watch", "--once", "--url", "http://"+web); got.code == 0 && strings.Contains(got.stdout, "fastest of") {
			break
		}
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s*(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no VmRSS in %s", b)
	}
	kb, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || kb*1024 > 40e6 {
		t.Errorf("resident %s kB", m[1])
	}
	t.Logf("resident %.1f MB", kb*1024/1e6)
}

package cli_test

import (
	"debug/elf"
	"debug/macho"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// build makes the program for a platform as `make build` does.
func build(t *testing.T, dir, goos, arch string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "edgegateway")
	cmd := exec.Command(testkit.Program(t, "go"), "build", "-trimpath", "-ldflags", "-s -w", "-o", to, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s/%s: %v\n%s", goos, arch, err, out)
	}
	info, err := os.Stat(to)
	if err != nil {
		t.Fatal(err)
	}
	if mb := float64(info.Size()) / 1e6; mb > 30 {
		t.Errorf("%s/%s has %.1f MB; it is to stay under 30", goos, arch, mb)
	}
	return to
}

// finish runs a program to its end and gives what it said, both streams.
func finish(t *testing.T, cmd *exec.Cmd) (out string, code int) {
	t.Helper()
	b, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// The program for Apple's machines is built without cgo. It is not run here.
func TestDarwin(t *testing.T) {
	t.Parallel()
	f, err := macho.Open(build(t, testkit.Root(t), "darwin", "arm64"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Cpu != macho.CpuArm64 {
		t.Error(f.Cpu)
	}
}

const armRoot = "/usr/aarch64-linux-gnu"

// arm is the program for arm64, run by an emulator.
func arm(t *testing.T) func(args ...string) *exec.Cmd {
	t.Helper()
	emulator := testkit.Program(t, "qemu-aarch64-static")
	root := testkit.Root(t)
	for _, need := range []string{armRoot + "/lib/ld-linux-aarch64.so.1", armRoot + "/lib/libstdc++.so.6", root + "/infer/tflite/lib/linux_arm64/libtensorflowlite_c.so.zst"} {
		if _, err := os.Stat(need); err != nil {
			testkit.Missing(t, "%v", err)
		}
	}
	program := build(t, root, "linux", "arm64")
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != elf.EM_AARCH64 {
		t.Fatal(f.Machine)
	}
	return func(args ...string) *exec.Cmd {
		cmd := exec.Command(emulator, append([]string{program}, args...)...)
		cmd.Env = append(os.Environ(), "QEMU_LD_PREFIX="+armRoot)
		return cmd
	}
}

// numbersOf are the numbers that `model run` printed, without its times.
func numbersOf(t *testing.T, out string) (list []float64) {
	t.Helper()
	for _, line := range strings.Split(out, "\n") {
		for _, word := range strings.Fields(strings.Trim(line, " []")) {
			if v, err := strconv.ParseFloat(word, 64); err == nil && strings.HasPrefix(line, "  ") {
				list = append(list, v)
			}
		}
	}
	return list
}

// On arm64 the answers are those of this machine, on the built-in kernels and
// on XNNPACK, of float and quantized models; and they are right.
func TestArmAnswers(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH == "arm64" {
		t.Skip("this machine is one: all other tests show it")
	}
	angles := []float64{0, 0.5, 1.5707963, 3.1415927, 5}
	dir := t.TempDir()
	var rows, spectrum []string
	for _, a := range angles {
		rows = append(rows, fmt.Sprint(a))
	}
	for i := range 640 {
		spectrum = append(spectrum, fmt.Sprintf("%.4f", math.Sin(float64(i)/10)))
	}
	sines := write(t, dir, "angles.csv", strings.Join(rows, "\n")+"\n")
	sounds := write(t, dir, "spectrum.csv", strings.Join(spectrum, ",")+"\n")
	models := []struct {
		name, input, output string
		want                []float64
		within              float64 // of want
	}{
		{"hello_world_float", sines, "raw", sinesOf(angles), 0.06},
		{"hello_world_int8", sines, "raw", sinesOf(angles), 0.06},
		{"ad01_fp32", sounds, "reconstruction", []float64{311.04}, 0.01},
		{"ad01_int8", sounds, "reconstruction", []float64{325}, 3},
	}
	for _, m := range models {
		testkit.Shared(t, "models/"+m.name+".tflite")
	}
	program := arm(t)
	for _, m := range models {
		for _, delegate := range []string{"builtin", "xnnpack:3"} {
			args := []string{"model", "run", "--csv", "--output", m.output, "--delegate", delegate, testkit.Shared(t, "models/"+m.name+".tflite"), m.input}
			there, code := finish(t, program(args...))
			if code != 0 {
				t.Errorf("%s on %s: exit code %d: %s", m.name, delegate, code, there)
				continue
			}
			got, here := numbersOf(t, there), numbersOf(t, done(t, "", args...))
			if len(got) != len(m.want) || len(here) != len(got) || !strings.Contains(there, "("+delegate+",") {
				t.Errorf("%s on %s: %s", m.name, delegate, there)
				continue
			}
			for i, v := range got {
				if math.Abs(v-m.want[i]) > m.within || math.Abs(v-here[i]) > 1e-4*max(1, math.Abs(v)) {
					t.Errorf("%s on %s, row %d: %g, here %g, known %g", m.name, delegate, i+1, v, here[i], m.want[i])
				}
			}
		}
	}
}

func sinesOf(angles []float64) (list []float64) {
	for _, a := range angles {
		list = append(list, math.Sin(a))
	}
	return list
}

// A whole gateway on arm64. Where the emulator cannot start a child, the
// trials of two models cannot be made: that is said once, and the built-in
// kernels serve.
func TestArmGateway(t *testing.T) {
	sine := testkit.Shared(t, "models/hello_world_float.tflite")
	other := testkit.Shared(t, "models/hello_world_int8.tflite")
	program := arm(t)
	dir, broker, web := t.TempDir(), testkit.FreeAddr(t), testkit.FreeAddr(t)
	config := write(t, dir, "gateway.yaml", fmt.Sprintf(`gateway: hall-7
data: %s/data
broker: {listeners: [{tcp: %q}]}
models: {sine: {file: %q, output: raw}, other: {file: %q, output: raw}}
streams:
  a: {topics: [a/+], input: {json: [x]}, model: sine}
  b: {topics: [b/+], input: {json: [x]}, model: other}
dashboard: {listen: %q}
`, dir, broker, sine, other, web))
	p := testkit.Start(t, program("run", "--config", config))
	p.Line(` ready `)
	const once = "no trial of delegates; the built-in kernels serve"
	_, err := os.Stat("/proc/sys/fs/binfmt_misc/qemu-aarch64")
	children := err == nil
	said := map[bool]string{false: once, true: "delegate chosen"}[children]
	for !strings.Contains(p.Output(), said) { // it may have come before
		p.Line(``)
	}
	in := watching(t, broker, "results/#")
	for _, topic := range []string{"a/x", "b/x"} {
		done(t, "", "publish", "--broker", broker, topic, `{"x": 1.5707963}`)
		m := in.next()
		if s := string(m.Payload); m.Topic != "results/"+topic || !(strings.Contains(s, `"values":[0.99`) || strings.Contains(s, `"values":[1.0`)) {
			t.Errorf("%s %s", m.Topic, s)
		}
	}
	if children {
		return
	}
	// Both trials end, but where the emulator hangs in a fork of its own: it is
	// no machine of ours, and the gateway serves all the same.
	for range 100 {
		if got := done(t, "", "watch", "--once", "--url", "http://"+web); strings.Count(got, "the trial could not be made") == 2 {
			break
		}
	}
	if n := strings.Count(p.Output(), once); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}

// A clone as it is, without make: `go build .` works, so does all that needs
// no model, and what needs one names the two ways out.
func TestCleanClone(t *testing.T) {
	model := testkit.Shared(t, "models/hello_world_float.tflite")
	library := testkit.Cached(t, "tfjs-tflite-node/cc_deps/"+runtime.GOOS+"_"+runtime.GOARCH+"/libtensorflowlite_c.so")
	clone := t.TempDir()
	list := exec.Command(testkit.Program(t, "git"), "ls-files", "-co", "--exclude-standard")
	list.Dir = testkit.Root(t)
	files, err := list.Output()
	if err != nil {
		testkit.Missing(t, "this is no clone: %v", err)
	}
	for _, name := range strings.Fields(string(files)) {
		content, err := os.ReadFile(filepath.Join(list.Dir, name))
		if os.IsNotExist(err) {
			continue // about to be deleted
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(clone, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := build(t, clone, runtime.GOOS, runtime.GOARCH)
	input := write(t, t.TempDir(), "x.csv", "1.5707963\n")
	config := write(t, t.TempDir(), "gateway.yaml", fmt.Sprintf("data: %s\nbroker: {listeners: [{tcp: 127.0.0.1:0}]}\ndashboard: {listen: ''}\n", t.TempDir()))
	with := write(t, t.TempDir(), "gateway.yaml", fmt.Sprintf("data: %s\nbroker: {listeners: [{tcp: 127.0.0.1:0}]}\nmodels: {m: {file: %q}}\ndashboard: {listen: ''}\n", t.TempDir(), model))

	p := testkit.Start(t, exec.Command(program, "run", "--config", config))
	p.Line(` ready `)
	interrupt(t, p)
	if out, code := finish(t, exec.Command(program, "model", "inspect", model)); code != 0 || !strings.Contains(out, "FULLY_CONNECTED") {
		t.Errorf("%d %s", code, out)
	}
	for _, args := range [][]string{{"model", "run", "--csv", model, input}, {"model", "try", model}, {"run", "--config", with}} {
		out, code := finish(t, exec.Command(program, args...))
		if code == 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, "`make build`") || !strings.Contains(out, "infer.library") {
			t.Errorf("%s: %d %s", strings.Join(args, " "), code, out)
		}
	}
	out, code := finish(t, exec.Command(program, "model", "run", "--library", library, "--output", "raw", "--csv", model, input))
	if code != 0 || len(numbersOf(t, out)) != 1 || math.Abs(numbersOf(t, out)[0]-1) > 0.06 {
		t.Errorf("with a library of its own: %d %s", code, out)
	}
}

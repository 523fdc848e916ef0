package aggregate

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"

	"edgegateway/internal/testkit"
)

// exact are numbers that need no function of math: they are the same on each
// machine.
func exact(r *rand.Rand, n int, size float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = size * (float32(r.Int32N(1<<12))*float32(r.Int32N(1<<12)) - 1<<23) / (1 << 23)
	}
	return x
}

// digest is of the weights, states and reports of some rounds, or of encodings.
func digest(t *testing.T, kind string) string {
	h := sha256.New()
	r := rand.New(rand.NewPCG(11, 11))
	const n = 1500
	if c := (Compression{Kind: kind}); c.Validate() == nil {
		var left []float32
		for seed := range uint64(3) {
			data, now, err := Encode(c, exact(r, n, 0.01), left, seed)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(data, n)
			if err != nil {
				t.Fatal(err)
			}
			left = now
			h.Write(appendValues(appendValues(data, got), left))
		}
		return hex.EncodeToString(h.Sum(nil)[:8])
	}
	cfg := configOf(kind)
	cfg.ClipTimes = 1.1
	s := mustNew(t, cfg)
	w := exact(r, n, 0.1)
	for range 4 {
		var updates []Update
		for i := range 11 {
			updates = append(updates, Update{From: fmt.Sprint("g", i), Samples: r.Int64N(900) + 1, Age: r.IntN(3), Delta: exact(r, n, 0.001*float32(1+r.IntN(20)))})
		}
		report := finish(t, s, w, updates)
		state, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		h.Write(appendValues(state, w))
		fmt.Fprintf(h, "%d %d %x", report.Counted, report.Samples, report.Norm)
		for _, a := range append(report.SetAside, report.Outliers...) {
			fmt.Fprintf(h, "%s %x", a.From, a.Score)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// The bits are these, on each machine and in each release: who restarts a
// program of another version in the midst of a task counts on it.
func TestGolden(t *testing.T) {
	for kind, want := range map[string]string{
		"fedavg":       "097261f8394f0d4c",
		"fedavgm":      "cff11cbf3ceb8473",
		"fedadam":      "acaa46c829b9116d",
		"fedyogi":      "a39541744d68dc35",
		"fedadagrad":   "d62f0322037678cb",
		"fedbuff":      "9c967fb502a00aef",
		"median":       "bb482a4bf68dfce0",
		"trimmed-mean": "ba876de822416345",
		"krum":         "8359540ce06474a8",
		"multi-krum":   "0b57c1187fa99329",
		"none":         "02bbc5470763cb1a",
		"int8":         "5a72e944178ebb3c",
		"int4":         "4f8304b3ac47371d",
		"topk":         "7a02d0b1e5c07ac5",
		"topk-int8":    "e2c8c7e5d6dd46fc",
	} {
		if got := digest(t, kind); got != want {
			t.Errorf("%q: %q, want %q", kind, got, want)
		}
	}
}

// arm64 has one instruction for x*y+z that rounds once instead of twice, and
// the compiler uses it where it may: the same golden values there.
func TestGoldenOnArm(t *testing.T) {
	if runtime.GOARCH == "arm64" {
		t.Skip("TestGolden is this test here")
	}
	emulator := testkit.Program(t, "qemu-aarch64-static")
	program := filepath.Join(t.TempDir(), "aggregate.test")
	cmd := exec.Command(testkit.Program(t, "go"), "test", "-c", "-ldflags", "-s -w", "-o", program, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64", "GOEXPERIMENT=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != elf.EM_AARCH64 {
		t.Fatal(f.Machine)
	}
	out, err := exec.Command(emulator, program, "-test.run", "^TestGolden$", "-test.v").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Most of what one rounding instead of two would change is lost when a sum goes
// into 32 bits, and no golden value would show it: so the compiler is asked for
// what it makes.
func TestNoFusedMultiplyAdd(t *testing.T) {
	cmd := exec.Command(testkit.Program(t, "go"), "build", "-gcflags=-S", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64", "GOEXPERIMENT=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !regexp.MustCompile(`\tFMULD\t`).Match(out) {
		t.Fatal("this is not the assembly of arm64")
	}
	for _, line := range regexp.MustCompile(`.*\tFN?M(ADD|SUB)[SD]\t.*`).FindAll(out, -1) {
		t.Errorf("multiplies and adds with one rounding: put the product in float64()\n%s", line)
	}
}

package infer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgegateway/infer/model"
	"edgegateway/internal/testkit"
)

// How many damaged models are run, from which seed, and where those that end
// the process are kept: go test ./infer -run DamagedModels -damaged 20000 -damaged-seed 5
var (
	damagedRuns = flag.Int("damaged", 600, "damaged models that are run")
	damagedSeed = flag.Uint64("damaged-seed", 1, "of the damage")
	damagedSize = flag.Int("damaged-size", 400_000, "bytes of the largest model that is damaged")
	damagedKept = flag.String("damaged-out", "", "folder for models that end the process")
)

// A model with damage anywhere in its fields is refused by name, or runs:
// whatever the check takes does not end the process that runs it, nor keeps it
// for ever.
func TestDamagedModels(t *testing.T) {
	needLibrary(t)
	r := rand.New(rand.NewPCG(*damagedSeed, 9))
	files := damageable(t)
	var list [][]byte
	var of []string
	refused := 0
	for len(list)+refused < *damagedRuns {
		k := r.IntN(len(files))
		b, what := damage(r, files[k].data)
		m, err := model.Read(b)
		if err == nil {
			_, _, _, err = m.Adapted(b)
		}
		if err != nil {
			refused++
			continue
		}
		list, of = append(list, b), append(of, filepath.Base(files[k].path)+": "+what)
	}
	died := 0
	for at := 0; at < len(list); at++ {
		n, said := damagedChild(t, list[at:])
		if at += n; at < len(list) {
			died++
			t.Errorf("model %d, %s: %s", at, of[at], said)
			if *damagedKept != "" {
				if err := os.WriteFile(filepath.Join(*damagedKept, fmt.Sprintf("%d-%d.tflite", *damagedSeed, at)), list[at], 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Logf("%d damaged models: %d refused, %d run, %d of them ended the process", *damagedRuns, refused, len(list), died)
}

type damagedFile struct {
	path string
	data []byte
}

// damageable are the shared models that are small enough to run often, and
// this repository's own.
func damageable(t *testing.T) (list []damagedFile) {
	t.Helper()
	for _, pattern := range []string{filepath.Join(testkit.Shared(t, "models"), "*.tflite"), filepath.Join("model", "testdata", "*.tflite")} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) > *damagedSize {
				continue
			}
			m, err := model.Read(b)
			if err == nil {
				_, _, _, err = m.Adapted(b)
			}
			if err == nil {
				list = append(list, damagedFile{p, b})
			}
		}
	}
	return list
}

// damage changes some fields of a model, or some bytes of its file, and says
// which.
func damage(r *rand.Rand, data []byte) (b []byte, what string) {
	if r.IntN(4) == 0 {
		b = append([]byte(nil), data...)
		for range 1 + r.IntN(10) {
			b[r.IntN(len(b))] = byte(r.IntN(256))
		}
		return b, "bytes"
	}
	m, err := model.Read(append([]byte(nil), data...))
	if err != nil {
		return data, err.Error()
	}
	var said []string
	for range 1 + r.IntN(2) {
		g := m.Main()
		if r.IntN(2) == 0 && len(g.Ops) > 0 {
			i := r.IntN(len(g.Ops))
			said = append(said, fmt.Sprintf("op %d %s: %s", i, g.Ops[i].Code, damageOp(r, g, &g.Ops[i])))
			continue
		}
		i := r.IntN(len(g.Tensors))
		said = append(said, fmt.Sprintf("tensor %d %.20q: %s", i, g.Tensors[i].Name, damageTensor(r, &g.Tensors[i])))
	}
	what = strings.Join(said, "; ")
	if b, err = m.Encode(); err != nil {
		return nil, what
	}
	return b, what
}

// odd numbers of each kind.
var (
	oddInts   = []int64{0, -1, 1, 2, 3, 7, 255, -128, 65536, math.MaxInt32, math.MinInt32}
	oddFloats = []float64{0, -1, 1, 1e-45, 1e-38, 1e-20, 1e-6, 1000, 1e9, 1e20, 1e30, 1e37, math.NaN(), math.Inf(1), math.Inf(-1)}
)

func damageOp(r *rand.Rand, g *model.Subgraph, op *model.Op) string {
	v := reflect.Indirect(reflect.ValueOf(op.Builtin))
	switch n := r.IntN(10); {
	case n == 0 && len(op.Inputs) > 0:
		k := r.IntN(len(op.Inputs))
		op.Inputs[k] = r.IntN(len(g.Tensors)+1) - 1
		return fmt.Sprintf("input %d is tensor %d", k, op.Inputs[k])
	case n == 1 && len(op.Outputs) > 0:
		k := r.IntN(len(op.Outputs))
		op.Outputs[k] = r.IntN(len(g.Tensors))
		return fmt.Sprintf("output %d is tensor %d", k, op.Outputs[k])
	case n == 2 && len(op.Inputs) > 0:
		op.Inputs = op.Inputs[:r.IntN(len(op.Inputs))]
		return fmt.Sprintf("%d inputs", len(op.Inputs))
	case n == 3:
		op.Version = r.IntN(12)
		return fmt.Sprintf("version %d", op.Version)
	case n == 4 && len(g.Ops) > 1:
		op.Code = g.Ops[r.IntN(len(g.Ops))].Code
		return "is " + op.Code
	case v.Kind() == reflect.Struct && v.NumField() > 0:
		k := r.IntN(v.NumField())
		f := v.Field(k)
		switch f.Kind() {
		case reflect.Int32, reflect.Int8:
			x := oddInts[r.IntN(len(oddInts))]
			if f.OverflowInt(x) {
				x = 1
			}
			f.SetInt(x)
		case reflect.Float32:
			f.SetFloat(oddFloats[r.IntN(len(oddFloats))])
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.Slice:
			if f.Len() > 0 && f.Index(0).CanInt() {
				f.Index(r.IntN(f.Len())).SetInt(oddInts[r.IntN(len(oddInts))])
			}
		}
		return fmt.Sprintf("%s %v", v.Type().Field(k).Name, f)
	case len(op.Outputs) > 1:
		op.Outputs = op.Outputs[:1]
		return "one output"
	}
	op.Builtin = nil
	return "no options"
}

func damageTensor(r *rand.Rand, t *model.Tensor) string {
	switch n := r.IntN(10); {
	case n == 0 && len(t.Shape) > 0:
		d := int(oddInts[r.IntN(len(oddInts))])
		if d == 65536 {
			d = 512 // a model that works for an hour is none that is damaged
		}
		t.Shape[r.IntN(len(t.Shape))] = d
		return fmt.Sprintf("shape %v", t.Shape)
	case n == 1 && len(t.Shape) > 0:
		t.Shape = t.Shape[:len(t.Shape)-1]
		return fmt.Sprintf("shape %v", t.Shape)
	case n == 2:
		t.Type = model.Type(r.IntN(19))
		return t.Type.String()
	case n == 3:
		t.Buffer = nil
		return "no bytes"
	case n == 4:
		t.Variable = !t.Variable
		return fmt.Sprintf("variable %v", t.Variable)
	case n == 5 && len(t.Quant.Scale) > 0:
		k := r.IntN(len(t.Quant.ZeroPoint))
		t.Quant.ZeroPoint[k] = oddInts[r.IntN(len(oddInts))]
		return fmt.Sprintf("zero point %d is %d", k, t.Quant.ZeroPoint[k])
	case n == 6 && len(t.Quant.Scale) > 1:
		t.Quant.Scale, t.Quant.ZeroPoint = t.Quant.Scale[:1], t.Quant.ZeroPoint[:1]
		return "one scale"
	case n <= 7 && len(t.Quant.Scale) > 0:
		k := r.IntN(len(t.Quant.Scale))
		t.Quant.Scale[k] = float32(oddFloats[r.IntN(len(oddFloats))])
		return fmt.Sprintf("scale %d is %v", k, t.Quant.Scale[k])
	case t.Constant():
		b := append([]byte(nil), t.Buffer...)
		said := ""
		for range 1 + r.IntN(3) {
			k := r.IntN((len(b)+3)/4) * 4
			if k+4 > len(b) {
				b[k] = byte(r.IntN(256))
				continue
			}
			x := uint32(oddInts[r.IntN(len(oddInts))])
			if t.Type == model.Float32 {
				x = math.Float32bits(float32(oddFloats[r.IntN(len(oddFloats))]))
			}
			binary.LittleEndian.PutUint32(b[k:], x)
			said += fmt.Sprintf(" %d: %x", k/4, x)
		}
		t.Buffer = b
		return "values" + said
	}
	t.Shape = append(t.Shape, 1+r.IntN(3))
	return fmt.Sprintf("shape %v", t.Shape)
}

// damagedChild runs models in a child process, and gives how many it was done
// with when it ended, and what it said.
func damagedChild(t *testing.T, list [][]byte) (done int, said string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), "INFER_DAMAGED_CHILD=1")
	var words strings.Builder
	cmd.Stderr = &words
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer in.Close()
		for _, b := range list {
			if binary.Write(in, binary.LittleEndian, uint32(len(b))) != nil {
				return
			}
			if _, err := in.Write(b); err != nil {
				return
			}
		}
	}()
	on := ""
	hung := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		hung.Reset(30 * time.Second)
		if n, err := strconv.Atoi(lines.Text()); err == nil {
			done = n
		} else {
			on = lines.Text()
		}
	}
	stopped := !hung.Stop()
	err = cmd.Wait()
	if err == nil {
		if done != len(list) {
			t.Fatalf("the child was done with %d of %d models", done, len(list))
		}
		return done, ""
	}
	if stopped {
		return done, on + ": it hung"
	}
	for line := range strings.Lines(words.String()) {
		if strings.HasPrefix(line, "SIG") || strings.HasPrefix(line, "fatal") || strings.HasPrefix(line, "panic") {
			return done, fmt.Sprintf("%s: %v: %s", on, err, strings.TrimSpace(line))
		}
	}
	return done, fmt.Sprintf("%s: %v: %.300s", on, err, words.String())
}

// runDamaged is what the child does: each model on the built-in kernels and on
// XNNPACK, on three inputs, and a line for each that is done.
func runDamaged(in io.Reader, out io.Writer) {
	const room = 6 << 30 // addresses: Go's own are a part of it; the race detector's are far more
	if !raceDetector {
		if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: room, Max: room}); err != nil {
			panic(err)
		}
	}
	for n := 1; ; n++ {
		var size uint32
		if err := binary.Read(in, binary.LittleEndian, &size); err != nil {
			if !errors.Is(err, io.EOF) {
				panic(err)
			}
			return
		}
		b := make([]byte, size)
		if _, err := io.ReadFull(in, b); err != nil {
			panic(err)
		}
		for _, delegate := range []string{"builtin", "xnnpack:3"} {
			fmt.Fprintln(out, delegate)
			s, err := OpenSession(b, delegate, "")
			if err != nil {
				continue
			}
			for i := range inputs {
				fixedInput(s.In, i)
				if s.Invoke() != nil {
					break
				}
			}
			s.Close()
		}
		fmt.Fprintln(out, n)
	}
}

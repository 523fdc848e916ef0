package model_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/infer/tflite"
	"edgegateway/internal/testkit"
)

// answers runs a file on waves, on the built-in kernels, and gives the bytes
// of its outputs.
func answers(t *testing.T, file []byte) (out [][]byte, err error) {
	t.Helper()
	lib, err := tflite.Open("")
	if err != nil {
		t.Fatal(err)
	}
	m, err := lib.NewModel(file)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	in, err := m.NewInterpreter(tflite.Options{Threads: 1})
	if err != nil {
		return nil, err
	}
	defer in.Close()
	for _, x := range in.Inputs {
		for i := range x.Data {
			x.Data[i] = byte(i * 7 % 5)
			if x.Type == tflite.Int32 && i%4 > 0 {
				x.Data[i] = 0 // word ids: what is outside the vocabulary ends the process
			}
		}
		if x.Type == tflite.Float32 {
			for i := 0; i+4 <= len(x.Data); i += 4 {
				binary.LittleEndian.PutUint32(x.Data[i:], math.Float32bits(float32(math.Sin(float64(i)))))
			}
		}
	}
	if err := in.Invoke(); err != nil {
		return nil, err
	}
	for _, x := range in.Outputs {
		out = append(out, bytes.Clone(x.Data))
	}
	return out, nil
}

// The runtime answers a written file as the one it was read from, to the last
// bit.
func TestWrittenModelsAnswerTheSame(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(testkit.Shared(t, "models"), "*.tflite"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	ran := 0
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := model.Read(data)
		if err != nil {
			t.Fatal(err)
		}
		written, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		want, wantErr := answers(t, data)
		got, gotErr := answers(t, written)
		if (wantErr == nil) != (gotErr == nil) {
			t.Errorf("%s: %v, written %v", filepath.Base(path), wantErr, gotErr)
			continue
		}
		if wantErr != nil {
			continue
		}
		ran++
		for i := range want {
			if !bytes.Equal(want[i], got[i]) {
				t.Errorf("%s: output %d differs", filepath.Base(path), i)
			}
		}
	}
	if ran < 20 {
		t.Errorf("only %d of %d models ran", ran, len(files))
	}
}

// floats reads an output as reals.
func floats(file []byte, out []byte) []float64 {
	m, _ := model.Read(file)
	g := m.Main()
	o := g.Tensors[g.Outputs[0]]
	o.Buffer = out
	v, err := o.Floats()
	if err != nil {
		panic(err)
	}
	w := make([]float64, len(v))
	for i := range v {
		w[i] = float64(v[i])
	}
	return w
}

// A dense layer with a scale a channel answers zeros here; rewritten it
// answers what its real weights say.
func TestAdapt(t *testing.T) {
	for _, name := range []string{"dense_int8_per_channel", "dense_hybrid_per_channel"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".tflite"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := model.Read(data)
		if err != nil {
			t.Fatal(err)
		}
		g := m.Main()
		w, err := g.Tensors[1].Floats()
		if err != nil {
			t.Fatal(err)
		}
		b, err := g.Tensors[2].Floats()
		if err != nil {
			t.Fatal(err)
		}
		in := g.Tensors[0]
		x := make([]float64, in.Elements())
		for i := range x {
			x[i] = math.Sin(float64(4 * i))
			if in.Type == model.Int8 {
				x[i] = float64(in.Quant.Scale[0]) * float64(i*7%5)
			}
		}
		rewritten := m.Adapt()
		if len(rewritten) != 1 || !strings.Contains(rewritten[0], "op 0 FULLY_CONNECTED") {
			t.Fatalf("%s: %q", name, rewritten)
		}
		file, err := m.Write()
		if err != nil {
			t.Fatal(err)
		}
		out, err := answers(t, file)
		if err != nil {
			t.Fatal(err)
		}
		step := 0.2 // a hybrid layer quantizes its input to int8: half a step of 1/127 for each of 126 of weights is 0.5 at worst
		if q := g.Tensors[g.Outputs[0]].Quant; len(q.Scale) > 0 {
			step = float64(q.Scale[0])
		}
		for i, got := range floats(file, out[0]) {
			want := float64(b[i])
			for j := range x {
				want += float64(w[4*i+j]) * x[j]
			}
			if math.Abs(got-want) > step || want == 0 {
				t.Errorf("%s: output %d is %v, want %v within %v", name, i, got, want, step)
			}
		}
	}
}

// A float16 model whose constants are folded is a float32 model.
func TestFold(t *testing.T) {
	for _, name := range []string{"dense_float16_dequantize", "dense_int8_densify"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".tflite"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := model.Read(data)
		if err != nil {
			t.Fatal(err)
		}
		n, err := m.Fold()
		if err != nil || n != 1 || len(m.Main().Ops) != 1 {
			t.Fatalf("%s: %d folded, %d ops, %v", name, n, len(m.Main().Ops), err)
		}
		file, err := m.Write()
		if err != nil {
			t.Fatal(err)
		}
		want, err1 := answers(t, data)
		got, err2 := answers(t, file)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want[0], got[0]) {
			t.Errorf("%s: % x, want % x", name, got[0], want[0])
		}
	}
}

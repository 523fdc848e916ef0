package model

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// update writes the files that infer's tests show to the runtime:
// go test ./infer/model -run TestCheck -update
var update = flag.Bool("update", false, "write testdata")

// encodings are small files, each of one encoding: those that the runtime gets
// wrong with the words of the refusal, and their neighbours that it takes.
var encodings = []struct {
	name  string
	file  []byte
	words []string // of the refusal; none: Check takes it
}{
	{"dense_int8", int8Dense(0.1), nil},
	{"dense_int8_per_channel", int8Dense(0.1, 0.2, 0.3), []string{"op 0 FULLY_CONNECTED", "per-channel int8", `"dense/weights"`, "3 scales", "zeros", "_experimental_disable_per_channel_quantization_for_dense_layers"}},
	{"dense_hybrid", hybridDense(0.1), nil},
	{"dense_hybrid_per_channel", hybridDense(0.1, 0.2, 0.3), []string{"op 0 FULLY_CONNECTED", "hybrid", `"dense/weights"`, "zeros", "float16"}},
	{"dense_int8_densify", sparseDense(true), nil},
	{"dense_int8_sparse", sparseDense(false), []string{"op 0 FULLY_CONNECTED", "sparse int8", `"dense/weights"`, "DENSIFY"}},
	{"dense_int4", int4Dense(), []string{`tensor 1 "dense/weights"`, "int4", "int8 weights"}},
	{"dense_float16_dequantize", float16Dense(true), nil},
	{"dense_float16", float16Dense(false), []string{"op 0 FULLY_CONNECTED", "float16", `"dense/weights"`, "DEQUANTIZE"}},
	{"conv_int8", int8Conv(0.1, 0.2, 0), nil},
	{"conv_int8_zero_scale", int8Conv(0, 0.2, 0), nil},
	{"conv_int8_dimension", int8Conv(0.1, 0.2, 3), []string{`tensor 2 "conv/bias"`, "quantized_dimension is 3", "convert the model again"}},
	{"conv_int8_sparse", sparseConv(), []string{"op 0 CONV_2D", "sparse int8", `"conv/weights"`, "DENSIFY"}},
	{"matmul_int8", int8MatMul(0.1), nil},
	{"matmul_int8_per_channel", int8MatMul(0.1, 0.2, 0.3), []string{"op 0 BATCH_MATMUL", "per-channel int8", "zeros", "one scale"}},
	{"mul_int8", int8Mul(0.1), nil},
	{"mul_int8_per_channel", int8Mul(0.1, 0.2, 0.3, 0.4), []string{"op 0 MUL", "per-channel int8", "zeros", "one scale"}},
	{"edgetpu", edgeTPUModel(), []string{"edgetpu-custom-op", "Edge TPU"}},
}

func TestCheck(t *testing.T) {
	for _, e := range encodings {
		t.Run(e.name, func(t *testing.T) {
			kept := filepath.Join("testdata", e.name+".tflite")
			if *update {
				if err := os.WriteFile(kept, e.file, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if have, err := os.ReadFile(kept); err != nil || !bytes.Equal(have, e.file) {
				t.Errorf("%s is not what the test builds (%v); run with -update", kept, err)
			}
			m, err := Read(e.file)
			if err != nil {
				t.Fatal(err)
			}
			err = m.Check()
			if (err != nil) != (e.words != nil) {
				t.Fatalf("Check: %v", err)
			}
			for _, w := range e.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in the refusal: %v", w, err)
				}
			}
		})
	}
}

func TestCheckEdgeTPU(t *testing.T) {
	m, err := Read(edgeTPUModel())
	if err != nil {
		t.Fatal(err)
	}
	if !m.EdgeTPU() || !errors.Is(m.Check(), ErrEdgeTPU) {
		t.Errorf("EdgeTPU %v, Check %v", m.EdgeTPU(), m.Check())
	}
	if err := m.CheckAccelerated(); err != nil {
		t.Errorf("with an accelerator: %v", err)
	}
}

func TestNotices(t *testing.T) {
	m, err := Read(int8Conv(0, 0.2, 0))
	if err != nil {
		t.Fatal(err)
	}
	n := m.Notices()
	if len(n) != 1 || !n[0].BuiltinOnly || !strings.Contains(n[0].Text, `"conv/weights" has 1 of 2`) {
		t.Errorf("notices %+v", n)
	}
	if m, err = Read(int8Conv(0.1, 0.2, 0)); err != nil || len(m.Notices()) != 0 {
		t.Errorf("notices %+v of a sound model (%v)", m.Notices(), err)
	}
}

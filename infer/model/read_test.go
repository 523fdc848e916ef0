package model

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edgegateway/infer/model/internal/schema"
	"edgegateway/internal/testkit"
)

// sharedModels are the paths of all real models at hand.
func sharedModels(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testkit.Shared(t, "models"), "*.tflite"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no models: %v", err)
	}
	return files
}

func readFile(t testing.TB, path string) (*Model, []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Read(data)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return m, data
}

func TestReadRealModels(t *testing.T) {
	for _, path := range sharedModels(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m, data := readFile(t, path)
			g := m.Main()
			if m.Version != 3 || m.Size != len(data) || len(g.Ops) == 0 || len(g.Inputs) == 0 || len(g.Outputs) == 0 {
				t.Errorf("version %d, size %d, %d ops, inputs %v, outputs %v", m.Version, m.Size, len(g.Ops), g.Inputs, g.Outputs)
			}
			err := m.Check()
			switch filepath.Base(path) {
			case "person_detect.tflite":
				if err == nil || !strings.Contains(err.Error(), "quantized_dimension is 3") {
					t.Errorf("Check: %v", err)
				}
			case "mobilenet_v1_0.25_128_quant_edgetpu.tflite":
				if !errors.Is(err, ErrEdgeTPU) {
					t.Errorf("Check: %v", err)
				}
			default:
				if err != nil {
					t.Errorf("Check: %v", err)
				}
			}
			if stateful := strings.Contains(path, "lstm"); m.Stateful() != stateful {
				t.Errorf("stateful %v", m.Stateful())
			}
			if n := m.Notices(); len(n) != 0 {
				t.Errorf("notices %v", n)
			}
		})
	}
}

// TestReadValues holds a file against what was put into it.
func TestReadValues(t *testing.T) {
	m, err := Read(sparseDense(true))
	if err != nil {
		t.Fatal(err)
	}
	g := m.Main()
	if g.Name != "main" || len(g.Tensors) != 5 || len(g.Ops) != 2 || g.Inputs[0] != 0 || g.Outputs[0] != 3 {
		t.Fatalf("subgraph %+v", g)
	}
	w := g.Tensors[1]
	if w.Name != "dense/weights" || w.Type != Int8 || w.Shape[0] != 3 || w.Shape[1] != 4 || w.Quant.Scale[0] != 0.1 {
		t.Errorf("weights %+v", w)
	}
	if w.Elements() != 12 || w.Stored() != 4 || w.Buffer[3] != 120 {
		t.Errorf("%d elements, %d stored, bytes %v", w.Elements(), w.Stored(), w.Buffer)
	}
	s := w.Sparsity
	if s == nil || len(s.Dims) != 2 || s.Dims[0].Size != 3 || !s.Dims[1].Sparse || s.Dims[1].Segments[1] != 2 || s.Dims[1].Indices[2] != 1 {
		t.Errorf("sparsity %+v", s)
	}
	if op := g.Ops[1]; op.Code != "FULLY_CONNECTED" || op.Version != 4 || op.Inputs[1] != 4 || op.Outputs[0] != 3 {
		t.Errorf("op %+v", op)
	}
}

func TestReadRefuses(t *testing.T) {
	good := int8Dense(0.1)
	broken := func(change func(*schema.ModelT)) []byte {
		m := schema.GetRootAsModel(good, 0).UnPack()
		change(m)
		return pack(m)
	}
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "TFL3"},
		{"other file", []byte("\x89PNG\r\n\x1a\n0000"), "TFL3"},
		{"cut", good[:len(good)/2], "the file is cut or damaged"},
		{"root outside", append([]byte{0xff, 0xff, 0xff, 0x7f}, good[4:]...), "the file is cut or damaged"},
		{"no subgraph", broken(func(m *schema.ModelT) { m.Subgraphs = nil }), "no subgraph"},
		{"buffer", broken(func(m *schema.ModelT) { m.Subgraphs[0].Tensors[1].Buffer = 9 }), "names buffer 9 of 3"},
		{"operator code", broken(func(m *schema.ModelT) { m.Subgraphs[0].Operators[0].OpcodeIndex = 1 }), "op 0: it names operator code 1 of 1"},
		{"tensor of op", broken(func(m *schema.ModelT) { m.Subgraphs[0].Operators[0].Inputs[1] = 4 }), "tensor 4 of 4"},
		{"negative output", broken(func(m *schema.ModelT) { m.Subgraphs[0].Outputs[0] = -1 }), "tensor -1 of 4"},
		{"buffer outside", broken(func(m *schema.ModelT) { m.Buffers[1].Offset, m.Buffers[1].Size = 100, 1<<40 }), "buffer 1 stands outside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := Read(c.data)
			if m != nil || !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// FuzzRead: no bytes make Read, or what is asked of its Model, panic.
func FuzzRead(f *testing.F) {
	for _, e := range encodings {
		f.Add(e.file)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Read(data)
		if err != nil {
			return
		}
		_ = m.Check()
		_ = m.CheckAccelerated()
		_ = m.Notices()
		_ = m.Inspect()
		_ = m.About()
	})
}

// A constant's bytes are where Places says, and none is there twice.
func TestPlaces(t *testing.T) {
	for _, e := range encodings {
		m, err := Read(e.file)
		if err != nil {
			continue
		}
		end, places := 0, m.Places()
		for _, p := range places {
			if p.Offset < end || !bytes.Equal(e.file[p.Offset:p.Offset+p.Size], p.Tensor.Buffer) {
				t.Errorf("%s: %q is not at %d", e.name, p.Tensor.Name, p.Offset)
			}
			end = p.Offset + p.Size
		}
		for _, c := range m.Main().Tensors {
			if c.Constant() && !slices.ContainsFunc(places, func(p Place) bool { return p.Tensor.BufferIndex == c.BufferIndex }) {
				t.Errorf("%s: %q is nowhere", e.name, c.Name)
			}
		}
	}
}

// What is read ends where the file ends, though the slice's array goes on.
func TestReadWithinFile(t *testing.T) {
	for _, e := range encodings {
		for n := range e.file {
			_, part := Read(e.file[:n])
			_, alone := Read(slices.Clip(e.file[:n]))
			if (part == nil) != (alone == nil) {
				t.Fatalf("%s, the first %d bytes: %v, and with nothing behind them: %v", e.name, n, part, alone)
			}
		}
	}
}

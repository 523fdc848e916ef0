package model

import (
	"bytes"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

// graph is all of a model but where its bytes stand.
func graph(m *Model) *Model {
	c := m.Clone()
	c.data, c.buffers, c.places, c.Size = nil, nil, nil, 0
	for i := range c.Subgraphs {
		for j := range c.Subgraphs[i].Tensors {
			c.Subgraphs[i].Tensors[j].BufferIndex = 0
		}
	}
	return c
}

var unexported = cmp.Exporter(func(reflect.Type) bool { return true })

func encode(t testing.TB, m *Model) *Model {
	t.Helper()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// Every real model that is read, written and read again is the same.
func TestWriteRealModels(t *testing.T) {
	for _, path := range sharedModels(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m, _ := readFile(t, path)
			again := encode(t, m)
			if !reflect.DeepEqual(graph(m), graph(again)) {
				t.Error("the graphs differ")
			}
			if d := Diff(m, again); !d.Same() {
				t.Errorf("%+v", d)
			}
			if a, b := m.Packed(), again.Packed(); !slices.Equal(a, b) {
				t.Errorf("packed %v, now %v", a, b)
			}
			la, _ := m.Labels()
			lb, err := again.Labels()
			if err != nil || !slices.Equal(la, lb) {
				t.Errorf("labels differ: %v", err)
			}
			once, _ := again.Encode()
			twice, _ := encode(t, again).Encode()
			if !bytes.Equal(once, twice) {
				t.Error("the same model is written in two ways")
			}
			for i, b := range again.buffers {
				if len(b) == 0 {
					continue
				}
				if at := uintptr(unsafe.Pointer(&b[0])) - uintptr(unsafe.Pointer(&again.data[0])); at%16 != 0 {
					t.Errorf("buffer %d stands at %d", i, at)
				}
			}
			if len(again.buffers[0]) != 0 {
				t.Error("buffer 0 is not empty")
			}
		})
	}
}

// Each encoding that the runtime gets wrong is never written.
func TestWriteRefuses(t *testing.T) {
	for _, e := range encodings {
		m, err := Read(e.file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.Write()
		if (err != nil) != (e.words != nil) {
			t.Errorf("%s: %v", e.name, err)
		}
		if err != nil && (b != nil || !strings.Contains(err.Error(), e.words[0])) {
			t.Errorf("%s: %d bytes, %v", e.name, len(b), err)
		}
	}
}

func TestWriteBadModels(t *testing.T) {
	valid, err := Read(int8Dense(0.1))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		damage func(*Model)
	}{
		{"a tensor that is not there", func(m *Model) { m.Main().Ops[0].Inputs[0] = 99 }},
		{"an output that is not there", func(m *Model) { m.Main().Outputs[0] = -1 }},
		{"an unknown operator", func(m *Model) { m.Main().Ops[0].Code = "CONV_9D" }},
		{"options of no operator", func(m *Model) { m.Main().Ops[0].Builtin = &struct{ X int }{} }},
	} {
		m := valid.Clone()
		c.damage(m)
		if b, err := m.Encode(); err == nil {
			t.Errorf("%s: %d bytes", c.name, len(b))
		}
	}
	if d := Diff(valid, encode(t, valid)); !d.Same() {
		t.Errorf("damaging copies changed the original: %+v", d)
	}
}

func TestSharedBuffersStayShared(t *testing.T) {
	m, err := Read(int8Dense(0.1))
	if err != nil {
		t.Fatal(err)
	}
	g := m.Main()
	twin := g.Tensors[1]
	twin.Name = "twin"
	g.Add(twin)
	again := encode(t, m).Main()
	if a, b := again.Tensors[1], again.Tensors[len(again.Tensors)-1]; a.BufferIndex != b.BufferIndex || !bytes.Equal(a.Buffer, b.Buffer) {
		t.Errorf("buffers %d and %d", a.BufferIndex, b.BufferIndex)
	}
}

func TestTidy(t *testing.T) {
	m, err := Read(int8Dense(0.1))
	if err != nil {
		t.Fatal(err)
	}
	before := len(m.Main().Tensors)
	g := m.Main()
	dead := g.Add(Tensor{Name: "dead", Type: Int8, Shape: []int{1, 4}})
	g.Insert(0, Op{Code: "RELU", Version: 1, Inputs: []int{0}, Outputs: []int{dead}})
	m.Tidy()
	if g := m.Main(); len(g.Tensors) != before || len(g.Ops) != 1 || g.Ops[0].Code != "FULLY_CONNECTED" {
		t.Errorf("%d tensors, ops %v", len(g.Tensors), g.Ops)
	}
}

// FuzzWrite: what can be read can be written, and says the same again.
func FuzzWrite(f *testing.F) {
	for _, e := range encodings {
		f.Add(e.file)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Read(data)
		if err != nil {
			return
		}
		b, err := m.Encode()
		if err != nil {
			return // an operator of no name
		}
		again, err := Read(b)
		if err != nil {
			t.Fatalf("written, but: %v", err)
		}
		if d := cmp.Diff(graph(m), graph(again), unexported, cmp.Comparer(func(a, b float32) bool { return a == b || a != a && b != b })); d != "" {
			t.Fatal(d)
		}
		m.Adapt()
		m.Fold()
		m.Tidy()
		Diff(m, again)
	})
}

// Zero points that are the same stand in the file once.
func TestZeroPointsAreShared(t *testing.T) {
	size := func(second int64) int {
		zeros := make([]int64, 64)
		other := append([]int64(nil), zeros...)
		other[0] = second
		m := &Model{Version: 3, Subgraphs: []Subgraph{{}}}
		for i, z := range [][]int64{zeros, other} {
			m.Main().Add(Tensor{Name: "t", Type: Int8, Shape: []int{64}, Quant: Quantization{Scale: make([]float32, 64), ZeroPoint: z}, Buffer: make([]byte, 64+i)})
		}
		again := encode(t, m)
		if got := again.Main().Tensors[1].Quant.ZeroPoint; !slices.Equal(got, other) {
			t.Fatalf("%v, want %v", got, other)
		}
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return len(b)
	}
	if shared, apart := size(0), size(1); apart-shared < 8*64 {
		t.Errorf("%d bytes with shared zero points, %d without", shared, apart)
	}
}

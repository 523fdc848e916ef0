package model

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"edgegateway/infer/model/internal/schema"
)

// troubled are models that the check takes and that do harm when they run: what
// a pre-flight is for. They lie apart from those that tests run as they are.
var troubled = []struct {
	name string
	m    *Model
}{
	{"while_endless", endless()},
	{"variable_grows", growing()},
}

// endless is a WHILE whose condition holds for ever.
func endless() *Model {
	row := func(name string) Tensor { return Tensor{Name: name, Type: Float32, Shape: []int{1, 4}} }
	one := Tensor{Name: "one", Type: Float32, Shape: []int{1}, Buffer: float32s(1)}
	return &Model{Version: 3, Subgraphs: []Subgraph{
		{
			Name: "main", Tensors: []Tensor{row("in"), row("out")}, Inputs: []int{0}, Outputs: []int{1},
			Ops: []Op{{Code: "WHILE", Version: 1, Inputs: []int{0}, Outputs: []int{1}, Builtin: &schema.WhileOptionsT{CondSubgraphIndex: 1, BodySubgraphIndex: 2}}},
		},
		{
			Name: "condition", Tensors: []Tensor{row("a"), one, {Name: "true", Type: Bool, Shape: []int{1}}}, Inputs: []int{0}, Outputs: []int{2},
			Ops: []Op{{Code: "GREATER_EQUAL", Version: 1, Inputs: []int{1, 1}, Outputs: []int{2}, Builtin: &schema.GreaterEqualOptionsT{}}},
		},
		{
			Name: "body", Tensors: []Tensor{row("a"), one, row("b")}, Inputs: []int{0}, Outputs: []int{2},
			Ops: []Op{{Code: "ADD", Version: 1, Inputs: []int{0, 1}, Outputs: []int{2}, Builtin: &AddOptions{}}},
		},
	}}
}

// growing keeps a variable to which each run adds its input, 4 KB: what a leak
// looks like from outside. The tensors that grow have no shape in the file: the
// runtime would cut them to it.
func growing() *Model {
	handle := Tensor{Name: "variable", Type: Resource}
	block := func(name string, rows ...int) Tensor {
		return Tensor{Name: name, Type: Float32, Shape: append(rows, 64)}
	}
	first := block("first", 1)
	first.Buffer = make([]byte, 4*64)
	name := &schema.VarHandleOptionsT{Container: "", SharedName: "kept"}
	return &Model{Version: 3, Subgraphs: []Subgraph{
		{
			Name: "main", Inputs: []int{0}, Outputs: []int{1},
			Tensors: []Tensor{block("in", 16), block("out", 16), handle, {Name: "before", Type: Float32}, {Name: "after", Type: Float32}},
			Ops: []Op{
				{Code: "ADD", Version: 1, Inputs: []int{0, 0}, Outputs: []int{1}, Builtin: &AddOptions{}},
				{Code: "CALL_ONCE", Version: 1, Builtin: &schema.CallOnceOptionsT{InitSubgraphIndex: 1}},
				{Code: "VAR_HANDLE", Version: 1, Outputs: []int{2}, Builtin: name},
				{Code: "READ_VARIABLE", Version: 1, Inputs: []int{2}, Outputs: []int{3}, Builtin: &schema.ReadVariableOptionsT{}},
				{Code: "CONCATENATION", Version: 1, Inputs: []int{3, 0}, Outputs: []int{4}, Builtin: &ConcatenationOptions{}},
				{Code: "ASSIGN_VARIABLE", Version: 1, Inputs: []int{2, 4}, Builtin: &schema.AssignVariableOptionsT{}},
			},
		},
		{
			Name: "begin", Tensors: []Tensor{handle, first},
			Ops: []Op{
				{Code: "VAR_HANDLE", Version: 1, Outputs: []int{0}, Builtin: name},
				{Code: "ASSIGN_VARIABLE", Version: 1, Inputs: []int{0, 1}, Builtin: &schema.AssignVariableOptionsT{}},
			},
		},
	}}
}

func TestTroubled(t *testing.T) {
	for _, e := range troubled {
		file, err := e.m.Write()
		if err != nil {
			t.Fatalf("%s: %v", e.name, err)
		}
		kept := filepath.Join("testdata", "troubled", e.name+".tflite")
		if *update {
			if err := os.WriteFile(kept, file, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(kept); err != nil || !bytes.Equal(have, file) {
			t.Errorf("%s is not what the test builds (%v); run with -update", kept, err)
		}
	}
}

package model

import "edgegateway/infer/model/internal/schema"

// Model is a .tflite file, read. Tensor and metadata bytes are parts of the
// slice that was given to Read: who changes that slice changes the Model.
type Model struct {
	Description string
	Version     int // of the format: 3
	Subgraphs   []Subgraph
	Signatures  []Signature
	Metadata    []Metadata
	Size        int // of the file, with what is packed behind the tables

	data    []byte   // as read
	buffers [][]byte // by index, as tensors and metadata name them
	places  []int    // where in data each begins
	tail    []byte   // the archive behind the tables
}

// Subgraph is a graph of operators over tensors. The first of a model is the
// one that runs; others are bodies of IF and WHILE.
type Subgraph struct {
	Name    string
	Tensors []Tensor
	Inputs  []int // indexes into Tensors
	Outputs []int
	Ops     []Op // in the order in which they run
}

// Op is one step of a Subgraph.
type Op struct {
	Code    string // "CONV_2D", or the name of a custom operator
	Custom  bool
	Version int
	Inputs  []int // indexes into Tensors; -1 for an optional input left out
	Outputs []int
	// Builtin are a builtin operator's options, a pointer to one of the types
	// in options.go; nil where the file gives none.
	Builtin any
	// Options are the bytes of a custom operator's options (FlexBuffers).
	Options []byte
	// Mutating says which inputs are variables that the operator changes.
	Mutating []bool
	// Intermediates are tensors that hold only quantization parameters.
	Intermediates []int

	more *schema.BuiltinOptions2T // the continuation of Builtin
}

// Signature is a named way to call a subgraph.
type Signature struct {
	Key      string
	Subgraph int
	Inputs   []Alias
	Outputs  []Alias
}

// Alias is a signature's own name for a tensor.
type Alias struct {
	Name   string
	Tensor int
}

// Metadata is a named blob inside the tables.
type Metadata struct {
	Name string
	Data []byte
}

// Main is the subgraph that runs. Read refuses a model without one.
func (m *Model) Main() *Subgraph { return &m.Subgraphs[0] }

// Meta returns the metadata of that name, nil where there is none.
func (m *Model) Meta(name string) []byte {
	for _, md := range m.Metadata {
		if md.Name == name {
			return md.Data
		}
	}
	return nil
}

// edgeTPUOp stands where a compiler put what the Edge TPU is to compute.
const edgeTPUOp = "edgetpu-custom-op"

// EdgeTPU says whether the model was compiled for the Edge TPU: no CPU runs it.
func (m *Model) EdgeTPU() bool {
	for _, g := range m.Subgraphs {
		for _, op := range g.Ops {
			if op.Custom && op.Code == edgeTPUOp {
				return true
			}
		}
	}
	return false
}

// Stateful says whether the model keeps values from one run to the next
// (recurrent layers do): its variables must be reset before every run, or an
// answer depends on the inputs before it.
func (m *Model) Stateful() bool {
	for _, g := range m.Subgraphs {
		for i := range g.Tensors {
			if g.Tensors[i].Variable {
				return true
			}
		}
	}
	return false
}

// tensor returns the tensor behind the i-th input of op, nil where it is left
// out or op has fewer.
func (g *Subgraph) tensor(op *Op, i int) *Tensor {
	if i >= len(op.Inputs) || op.Inputs[i] < 0 {
		return nil
	}
	return &g.Tensors[op.Inputs[i]]
}

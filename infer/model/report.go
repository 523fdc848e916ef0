package model

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report is what `model inspect` prints of a model, as values.
type Report struct {
	Description string        `json:"description,omitempty"`
	Version     int           `json:"version"`
	MinRuntime  string        `json:"min_runtime,omitempty"`
	Sizes       Sizes         `json:"bytes"`
	Parameters  int           `json:"parameters"`
	Subgraphs   []GraphReport `json:"subgraphs"`
	Signatures  []string      `json:"signatures,omitempty"`
	Metadata    []PackedFile  `json:"metadata,omitempty"`
	Packed      []PackedFile  `json:"packed,omitempty"`
	Labels      int           `json:"labels,omitempty"`
	Problem     string        `json:"problem,omitempty"` // why Check refuses it
	Notices     []string      `json:"notices,omitempty"`
}

// Sizes says what the bytes of a file are for; the parts add up to File.
type Sizes struct {
	File     int `json:"file"`
	Weights  int `json:"weights"`
	Metadata int `json:"metadata"`
	Packed   int `json:"packed"` // the archive, as compressed as it is
	Tables   int `json:"tables"` // and padding: all the rest
}

// GraphReport is a subgraph.
type GraphReport struct {
	Name    string         `json:"name,omitempty"`
	Inputs  []TensorReport `json:"inputs"`
	Outputs []TensorReport `json:"outputs"`
	Ops     []OpReport     `json:"ops"`
	Weights []TensorReport `json:"weights"`
	Tensors int            `json:"tensors"` // constants and computed ones
}

// OpReport is a kind of operator in a subgraph, in the order of first use.
// A constant's bytes count for the first operator that takes it.
type OpReport struct {
	Code    string `json:"code"`
	Version int    `json:"version"`
	Custom  bool   `json:"custom,omitempty"`
	Count   int    `json:"count"`
	Bytes   int    `json:"weight_bytes"`
}

// TensorReport is an input, an output or a constant.
type TensorReport struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Shape  []int  `json:"shape"`
	Quant  string `json:"quantization,omitempty"`
	Sparse string `json:"sparsity,omitempty"`
	Bytes  int    `json:"bytes,omitempty"`
}

// Inspect reports what the model is made of.
func (m *Model) Inspect() Report {
	r := Report{
		Description: m.Description,
		Version:     m.Version,
		MinRuntime:  strings.TrimRight(string(m.Meta("min_runtime_version")), "\x00"),
		Packed:      m.Packed(),
	}
	for _, md := range m.Metadata {
		r.Metadata = append(r.Metadata, PackedFile{md.Name, len(md.Data)})
	}
	for _, s := range m.Signatures {
		r.Signatures = append(r.Signatures, s.Key)
	}
	if labels, err := m.Labels(); err == nil {
		r.Labels = len(labels)
	}
	_, _, rewritten, err := m.Adapted(m.data)
	if err != nil {
		r.Problem = err.Error()
	}
	r.Notices = append(r.Notices, rewritten...)
	for _, n := range m.Notices() {
		r.Notices = append(r.Notices, n.Text)
	}
	counted := map[int]bool{} // buffers whose bytes stand in a sum
	for i := range m.Subgraphs {
		r.Subgraphs = append(r.Subgraphs, m.Subgraphs[i].report(counted, &r.Parameters))
	}
	r.Sizes = m.sizes()
	return r
}

// report describes g; buffers that are in counted are not counted again.
func (g *Subgraph) report(counted map[int]bool, parameters *int) GraphReport {
	r := GraphReport{Name: g.Name, Tensors: len(g.Tensors)}
	for _, i := range g.Inputs {
		r.Inputs = append(r.Inputs, g.Tensors[i].report())
	}
	for _, i := range g.Outputs {
		r.Outputs = append(r.Outputs, g.Tensors[i].report())
	}
	kinds := map[string]int{}
	for i := range g.Ops {
		op := &g.Ops[i]
		key := fmt.Sprintf("%s/%d/%v", op.Code, op.Version, op.Custom)
		k, ok := kinds[key]
		if !ok {
			k = len(r.Ops)
			kinds[key] = k
			r.Ops = append(r.Ops, OpReport{Code: op.Code, Version: op.Version, Custom: op.Custom})
		}
		r.Ops[k].Count++
		for j := range op.Inputs {
			if t := g.tensor(op, j); t != nil && t.Constant() && !counted[t.BufferIndex] {
				counted[t.BufferIndex] = true
				r.Ops[k].Bytes += len(t.Buffer)
				*parameters += t.Stored()
			}
		}
	}
	for i := range g.Tensors {
		if t := &g.Tensors[i]; t.Constant() {
			r.Weights = append(r.Weights, t.report())
		}
	}
	return r
}

func (t *Tensor) report() TensorReport {
	shape := t.Shape
	if len(t.ShapeSignature) == len(shape) && len(shape) > 0 {
		shape = t.ShapeSignature
	}
	return TensorReport{
		Name: t.Name, Type: t.Type.String(), Shape: slices.Clone(shape),
		Quant: t.Quant.String(), Sparse: t.sparseText(), Bytes: len(t.Buffer),
	}
}

// String is the quantization in short, "" without one.
func (q Quantization) String() string {
	switch {
	case len(q.Scale) == 0:
		return ""
	case q.PerChannel():
		return fmt.Sprintf("%d scales %.3g to %.3g on dimension %d", len(q.Scale), slices.Min(q.Scale), slices.Max(q.Scale), q.Dim)
	case len(q.ZeroPoint) == 0:
		return fmt.Sprintf("%.6g * q", q.Scale[0])
	}
	return fmt.Sprintf("%.6g * (q - %d)", q.Scale[0], q.ZeroPoint[0])
}

// sparseText says how much of a sparse tensor is stored, and in which blocks.
func (t *Tensor) sparseText() string {
	if t.Sparsity == nil {
		return ""
	}
	var form []string
	for _, d := range t.Sparsity.Dims {
		if d.Sparse {
			form = append(form, "csr")
		} else {
			form = append(form, fmt.Sprint(d.Size))
		}
	}
	return fmt.Sprintf("%d of %d stored, %s", t.Stored(), t.Elements(), strings.Join(form, "x"))
}

// sizes divides the file's bytes among its parts.
func (m *Model) sizes() Sizes {
	s := Sizes{File: m.Size}
	weights := map[int]bool{}
	for i := range m.Subgraphs {
		for j := range m.Subgraphs[i].Tensors {
			t := &m.Subgraphs[i].Tensors[j]
			if !weights[t.BufferIndex] {
				weights[t.BufferIndex] = true
				s.Weights += len(t.Buffer)
			}
		}
	}
	for _, md := range m.Metadata {
		s.Metadata += len(md.Data)
	}
	for _, f := range m.archive() {
		// 30 and 46 are the fixed parts of a file's two headers.
		s.Packed += int(min(f.CompressedSize64, 1<<31-1)) + 30 + 46 + 2*len(f.Name) + len(f.Comment) + len(f.Extra)
	}
	s.Tables = max(0, s.File-s.Weights-s.Metadata-s.Packed)
	return s
}

// Describe writes the report for a reader: what goes in and comes out, the
// operators, the largest constants, and what is wrong with it.
func (m *Model) Describe(w io.Writer) error {
	r := m.Inspect()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }
	line("file\t%s: weights %s, tables %s, metadata %s, packed files %s", bytesText(r.Sizes.File), bytesText(r.Sizes.Weights), bytesText(r.Sizes.Tables), bytesText(r.Sizes.Metadata), bytesText(r.Sizes.Packed))
	line("made by\t%s (needs runtime %s)", cmp.Or(short(r.Description), "-"), cmp.Or(short(r.MinRuntime), "any"))
	line("parameters\t%d", r.Parameters)
	if r.Labels > 0 {
		line("labels\t%d, packed", r.Labels)
	}
	for _, f := range r.Packed {
		line("packed\t%s, %s", short(f.Name), bytesText(f.Size))
	}
	for _, f := range r.Metadata {
		line("metadata\t%s, %s", short(f.Name), bytesText(f.Size))
	}
	for _, key := range r.Signatures {
		line("signature\t%s", short(key))
	}
	if r.Problem != "" {
		line("REFUSED\t%s", r.Problem)
	}
	for _, n := range r.Notices {
		line("notice\t%s", n)
	}
	for i, g := range r.Subgraphs {
		if len(r.Subgraphs) > 1 {
			line("\nsubgraph %d\t%s", i, short(g.Name))
		}
		g.describe(line)
	}
	return t.Flush()
}

func (g *GraphReport) describe(line func(string, ...any)) {
	for _, x := range g.Inputs {
		line("in\t%s\t%s %v\t%s", short(x.Name), x.Type, x.Shape, x.Quant)
	}
	for _, x := range g.Outputs {
		line("out\t%s\t%s %v\t%s", short(x.Name), x.Type, x.Shape, x.Quant)
	}
	line("\noperator\tversion\tcount\tweights")
	for _, op := range g.Ops {
		line("%s\t%d\t%d\t%s", short(op.Code), op.Version, op.Count, bytesText(op.Bytes))
	}
	const most = 20
	large := slices.Clone(g.Weights)
	slices.SortStableFunc(large, func(a, b TensorReport) int { return cmp.Compare(b.Bytes, a.Bytes) })
	if len(large) == 0 {
		return
	}
	line("\nconstant\ttype\tshape\tbytes\tquantization")
	for _, x := range large[:min(len(large), most)] {
		line("%s\t%s\t%v\t%d\t%s %s", short(x.Name), x.Type, x.Shape, x.Bytes, x.Quant, x.Sparse)
	}
	if n := len(large) - most; n > 0 {
		line("and %d smaller ones", n)
	}
}

// short is a name from the file, fit for a column: its end says most.
func short(name string) string {
	name = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '.'
		}
		return c
	}, name)
	const most = 56
	if c := []rune(name); len(c) > most {
		return "…" + string(c[len(c)-most:])
	}
	return name
}

func bytesText(n int) string {
	if n < 10000 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f KB", float64(n)/1000)
}

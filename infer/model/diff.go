package model

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Difference is what `model diff` prints of two models, as values.
type Difference struct {
	Bytes   [2]int       `json:"bytes"`
	Ops     []string     `json:"ops,omitempty"`     // - of the first alone, + of the second
	Tensors []TensorDiff `json:"tensors,omitempty"` // that both have and that differ
	OnlyA   []string     `json:"only_first,omitempty"`
	OnlyB   []string     `json:"only_second,omitempty"`
	Meta    []string     `json:"metadata,omitempty"` // names of entries that differ
	Packed  bool         `json:"packed,omitempty"`   // the packed files differ
	Weights int          `json:"weights"`            // that both have
	Changed int          `json:"weights_changed"`
}

// TensorDiff is a tensor that both models have, by name.
type TensorDiff struct {
	Name    string   `json:"name"`
	What    []string `json:"what,omitempty"` // other than values
	Values  int      `json:"values,omitempty"`
	Changed int      `json:"changed,omitempty"`
	Largest float64  `json:"largest,omitempty"` // absolute difference of two real values
}

// Same says whether nothing differs but perhaps the layout of the files.
func (d Difference) Same() bool {
	return len(d.Ops) == 0 && len(d.Tensors) == 0 && len(d.OnlyA) == 0 && len(d.OnlyB) == 0 && len(d.Meta) == 0 && !d.Packed
}

// Diff compares two models: operators in their order, tensors by name (the
// n-th of a name with the n-th) and, where layers have other names, by their
// place in the row of layers with weights, weights as real numbers, and metadata.
func Diff(a, b *Model) Difference {
	d := Difference{Bytes: [2]int{a.Size, b.Size}, Packed: !bytes.Equal(a.tail, b.tail)}
	d.Ops = diffLines(a.opLines(), b.opLines())
	ta, tb := a.named(), b.named()
	renamed(a, b, ta, tb)
	for _, name := range sortedKeys(ta) {
		other, ok := tb[name]
		if !ok {
			d.OnlyA = append(d.OnlyA, name)
			continue
		}
		t := diffTensor(name, ta[name], other)
		d.Weights += t.Values
		d.Changed += t.Changed
		if len(t.What) > 0 || t.Changed > 0 {
			d.Tensors = append(d.Tensors, t)
		}
	}
	for _, name := range sortedKeys(tb) {
		if _, ok := ta[name]; !ok {
			d.OnlyB = append(d.OnlyB, name)
		}
	}
	for _, md := range a.Metadata {
		if !bytes.Equal(md.Data, b.Meta(md.Name)) {
			d.Meta = append(d.Meta, md.Name)
		}
	}
	for _, md := range b.Metadata {
		if a.Meta(md.Name) == nil && len(md.Data) > 0 {
			d.Meta = append(d.Meta, md.Name)
		}
	}
	return d
}

func sortedKeys(m map[string]*Tensor) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// named are all tensors by name; the second of one name is "name#2".
func (m *Model) named() map[string]*Tensor {
	out := map[string]*Tensor{}
	for gi := range m.Subgraphs {
		for i := range m.Subgraphs[gi].Tensors {
			t := &m.Subgraphs[gi].Tensors[i]
			name := t.Name
			for n := 2; out[name] != nil; n++ {
				name = fmt.Sprintf("%s#%d", t.Name, n)
			}
			out[name] = t
		}
	}
	return out
}

// renamed gives the tensors of layers with weights one name in both, "first =
// second", where the models have as many such layers of the same kinds and
// shapes, and a name is not in the other.
func renamed(a, b *Model, ta, tb map[string]*Tensor) {
	layers := func(m *Model) (list [][]*Tensor, kinds []string) {
		g := m.Main()
		for i := range g.Ops {
			op := &g.Ops[i]
			if bias, ok := linearOps[op.Code]; ok && !op.Custom && len(op.Outputs) > 0 {
				list = append(list, []*Tensor{g.tensor(op, 1), g.tensor(op, bias), &g.Tensors[op.Outputs[0]]})
				kinds = append(kinds, op.Code)
			}
		}
		return list, kinds
	}
	la, ka := layers(a)
	lb, kb := layers(b)
	if !slices.Equal(ka, kb) {
		return
	}
	for i := range la {
		for k, x := range la[i] {
			y := lb[i][k]
			if x == nil || y == nil || ta[x.Name] != x || tb[y.Name] != y || ta[y.Name] != nil || tb[x.Name] != nil || !slices.Equal(x.Shape, y.Shape) {
				continue
			}
			both := x.Name + " = " + y.Name
			ta[both], tb[both] = x, y
			delete(ta, x.Name)
			delete(tb, y.Name)
		}
	}
}

// opLines is a line an operator, with what its options say.
func (m *Model) opLines() []string {
	var lines []string
	for gi := range m.Subgraphs {
		for _, op := range m.Subgraphs[gi].Ops {
			line := fmt.Sprintf("%s v%d", op.Code, op.Version)
			if op.Builtin != nil {
				line += strings.TrimPrefix(fmt.Sprintf(" %+v", op.Builtin), " &")
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// diffLines gives the lines of a alone with "- ", those of b alone with "+ ",
// by a longest common subsequence; two long lists that have nothing in common
// are given whole.
func diffLines(a, b []string) []string {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	const most = 2000
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, min(len(b), most)+1)
	}
	if len(a) <= most && len(b) <= most {
		for i := len(a) - 1; i >= 0; i-- {
			for j := len(b) - 1; j >= 0; j-- {
				if a[i] == b[j] {
					length[i][j] = length[i+1][j+1] + 1
				} else {
					length[i][j] = max(length[i+1][j], length[i][j+1])
				}
			}
		}
	}
	var out []string
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case i < len(a) && (j >= len(b) || j >= most || length[i+1][j] >= length[i][min(j+1, most)]):
			out = append(out, "- "+a[i])
			i++
		default:
			out = append(out, "+ "+b[j])
			j++
		}
	}
	return out
}

func diffTensor(name string, a, b *Tensor) TensorDiff {
	d := TensorDiff{Name: name}
	what := func(label string, same bool, x, y any) {
		if !same {
			d.What = append(d.What, fmt.Sprintf("%s %v -> %v", label, x, y))
		}
	}
	what("type", a.Type == b.Type, a.Type, b.Type)
	what("shape", slices.Equal(a.Shape, b.Shape), a.Shape, b.Shape)
	qa, qb := a.Quant.String(), b.Quant.String()
	what("quantization", slices.Equal(a.Quant.Scale, b.Quant.Scale) && slices.Equal(a.Quant.ZeroPoint, b.Quant.ZeroPoint), qa, qb)
	what("sparsity", (a.Sparsity == nil) == (b.Sparsity == nil), a.Sparsity != nil, b.Sparsity != nil)
	what("constant", a.Constant() == b.Constant(), a.Constant(), b.Constant())
	if !a.Constant() || !b.Constant() {
		return d
	}
	va, errA := a.Floats()
	vb, errB := b.Floats()
	if errA != nil || errB != nil || len(va) != len(vb) {
		if !bytes.Equal(a.Buffer, b.Buffer) && len(d.What) == 0 {
			d.What = append(d.What, "bytes")
		}
		return d
	}
	d.Values = len(va)
	for i := range va {
		if diff := math.Abs(float64(va[i]) - float64(vb[i])); diff > 0 || diff != diff {
			d.Changed++
			d.Largest = max(d.Largest, diff)
		}
	}
	return d
}

// Describe writes the difference for a reader.
func (d Difference) Describe(w io.Writer) error {
	if d.Same() {
		_, err := fmt.Fprintf(w, "the same model; %d and %d bytes\n", d.Bytes[0], d.Bytes[1])
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(tw, "file\t%s -> %s (%.1f %%)\n", bytesText(d.Bytes[0]), bytesText(d.Bytes[1]), 100*float64(d.Bytes[1])/float64(max(d.Bytes[0], 1)))
	fmt.Fprintf(tw, "weights\t%d of %d changed\n", d.Changed, d.Weights)
	for _, line := range few(d.Ops) {
		fmt.Fprintf(tw, "op\t%s\n", line)
	}
	const most = 40
	for i, t := range d.Tensors {
		if i == most {
			fmt.Fprintf(tw, "tensor\tand %d more\n", len(d.Tensors)-most)
			break
		}
		text := strings.Join(t.What, ", ")
		if t.Changed > 0 {
			text = strings.TrimPrefix(fmt.Sprintf("%s, %d of %d values by up to %.3g", text, t.Changed, t.Values, t.Largest), ", ")
		}
		fmt.Fprintf(tw, "tensor\t%s: %s\n", short(t.Name), text)
	}
	for _, n := range few(d.OnlyA) {
		fmt.Fprintf(tw, "first alone\t%s\n", short(n))
	}
	for _, n := range few(d.OnlyB) {
		fmt.Fprintf(tw, "second alone\t%s\n", short(n))
	}
	for _, n := range d.Meta {
		fmt.Fprintf(tw, "metadata\t%s differs\n", n)
	}
	if d.Packed {
		fmt.Fprintln(tw, "packed files\tdiffer")
	}
	return tw.Flush()
}

func few(list []string) []string {
	const most = 40
	if len(list) <= most {
		return list
	}
	return append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", len(list)-most))
}

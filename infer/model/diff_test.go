package model

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	a, err := Read(int8Dense(0.1))
	if err != nil {
		t.Fatal(err)
	}
	text := func(d Difference) string {
		var b strings.Builder
		if err := d.Describe(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if d := Diff(a, a.Clone()); !d.Same() || !strings.Contains(text(d), "the same model") {
		t.Errorf("%+v", d)
	}
	b := a.Clone()
	g := b.Main()
	w := slices.Clone(g.Tensors[1].Buffer)
	w[0] += 5
	g.Tensors[1].Buffer = w
	g.Tensors[0].Quant.Scale[0] = 0.25
	relu := g.Add(Tensor{Name: "relu", Type: Int8, Shape: []int{1, 3}, Quant: g.Tensors[g.Outputs[0]].Quant})
	g.Ops = append(g.Ops, Op{Code: "RELU", Version: 2, Inputs: []int{g.Outputs[0]}, Outputs: []int{relu}})
	b.SetMeta("note", []byte("by hand"))
	d := Diff(a, b)
	if d.Weights != 15 || d.Changed != 1 || !slices.Equal(d.Ops, []string{"+ RELU v2"}) || !slices.Equal(d.OnlyB, []string{"relu"}) || !slices.Equal(d.Meta, []string{"note"}) {
		t.Errorf("%+v", d)
	}
	if out := text(d); !strings.Contains(out, "1 of 12 values by up to 0.5") || !strings.Contains(out, "0.5 * (q - 0) -> 0.25 * (q - 0)") || !strings.Contains(out, "note differs") {
		t.Error(out)
	}
	back := Diff(b, a)
	if !slices.Equal(back.Ops, []string{"- RELU v2"}) || !slices.Equal(back.OnlyA, []string{"relu"}) {
		t.Errorf("%+v", back)
	}
}

func TestDiffLines(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"", "", ""},
		{"a b c", "a b c", ""},
		{"a b c", "a c", "-b"},
		{"a c", "a b c", "+b"},
		{"a b c d", "a x c d", "-b +x"},
		{"a b", "c d", "-a -b +c +d"},
		{"r a r b r", "r b r a r", "-a -r +r +a"},
	} {
		got := strings.ReplaceAll(strings.Join(diffLines(strings.Fields(c.a), strings.Fields(c.b)), ","), " ", "")
		if got = strings.ReplaceAll(got, ",", " "); got != c.want && len(strings.Fields(got)) != len(strings.Fields(c.want)) {
			t.Errorf("%q and %q: %q, want %q", c.a, c.b, got, c.want)
		}
	}
	long := make([]string, 5000)
	if d := diffLines(long, append(slices.Clone(long), "more")); !slices.Equal(d, []string{"+ more"}) {
		t.Errorf("%d lines", len(d))
	}
}

// Layers of other names are compared by their place: a network trained anew
// beside the old one.
func TestDiffRenamed(t *testing.T) {
	a, err := Read(int8Dense(0.1))
	if err != nil {
		t.Fatal(err)
	}
	b := a.Clone()
	g := b.Main()
	for i := range g.Tensors {
		if g.Tensors[i].Constant() {
			g.Tensors[i].Name = "other" + g.Tensors[i].Name
		}
	}
	w := bytes.Clone(g.Tensors[1].Buffer)
	w[5]++
	g.Tensors[1].Buffer = w
	d := Diff(a, b)
	if len(d.OnlyA) != 0 || len(d.OnlyB) != 0 || d.Changed != 1 || len(d.Tensors) != 1 || d.Tensors[0].Name != "dense/weights = otherdense/weights" {
		t.Errorf("%+v", d)
	}
	g.Tensors[1].Shape = []int{4, 3}
	if d := Diff(a, b); len(d.OnlyA) != 1 || len(d.OnlyB) != 1 {
		t.Errorf("of another shape: %+v", d)
	}
}

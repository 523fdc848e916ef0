package train

import (
	"bytes"
	"testing"

	"edgegateway/infer/model"
)

// FuzzFrom makes networks of whatever can be read: each is refused with an
// error, or computes and gives a model that is taken again with the same
// weights. Nothing panics, and nothing takes long.
func FuzzFrom(f *testing.F) {
	add := func(m *model.Model) {
		file, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	for _, g := range graphs {
		s, x := newSketch(g.in, 4)
		add(g.draw(s, x))
	}
	d := rings(50, 1)
	m, err := ringNet(f, d, 1).Export("rings", d.Classes)
	if err != nil {
		f.Fatal(err)
	}
	add(m)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		m, err := model.Read(data)
		if err != nil {
			return
		}
		n, err := From(m)
		if err != nil {
			return
		}
		back, err := n.Model()
		if err != nil {
			t.Fatal(err)
		}
		again := imported(t, back)
		if len(again.Params()) != len(n.Params()) {
			t.Fatalf("%d arrays, %d after it was written", len(n.Params()), len(again.Params()))
		}
		for i, p := range n.Params() {
			if !bytes.Equal(floatBytes(p.W), floatBytes(again.Params()[i].W)) {
				t.Fatalf("other weights of %s", p.Name)
			}
		}
		if n.origin.work > 1<<20 {
			return
		}
		x := make([]float32, 2*product(n.In))
		if y := n.Predict(x, 2); len(y) != 2*product(n.Out) {
			t.Fatalf("%d answers of %v", len(y), n.Out)
		}
		if n.Weights() > 0 {
			n.backward(make([]float32, 2*product(n.Out)), 2, len(n.layers))
		}
	})
}

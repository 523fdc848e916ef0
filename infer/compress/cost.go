package compress

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"fmt"
	"io"

	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
)

// Cost is what a model takes, by its file and shapes alone.
type Cost struct {
	Bytes  int         `json:"bytes"`
	Parts  model.Sizes `json:"parts"`
	Zipped int         `json:"zipped"` // as a member of a ZIP archive, at the best level
	// Packed is what the transport form of infer/model/pack takes; 0: nobody has
	// asked for it by Pack.
	Packed int `json:"packed,omitempty"`
	// MACs are multiplications with an addition in convolutions and dense layers.
	MACs int `json:"multiply_adds"`
	// Peak is the most bytes of values that are needed at one time: inputs,
	// outputs and what lies between, without weights. The runtime's own arena
	// holds some room beside it.
	Peak int `json:"peak_bytes"`
}

// CostOf reads a model's cost off its file.
func CostOf(file []byte) (*Cost, error) {
	m, err := model.Read(file)
	if err != nil {
		return nil, err
	}
	r := m.Inspect()
	c := &Cost{Bytes: len(file), Parts: r.Sizes, MACs: macs(m.Main()), Peak: peak(m.Main())}
	c.Zipped, err = zipped(file)
	return c, err
}

// Pack packs the file to say how many bytes it has then: 4 MB take a second and
// more, so that who asks for it says so.
func (c *Cost) Pack(file []byte) error {
	packed, err := pack.Pack(file, nil)
	c.Packed = len(packed)
	return err
}

func zipped(file []byte) (int, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	w, err := z.Create("model.tflite")
	if err == nil {
		_, err = w.Write(file)
	}
	if e := z.Close(); err == nil {
		err = e
	}
	if err != nil {
		return 0, fmt.Errorf("zip: %w", err)
	}
	return b.Len(), nil
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= max(d, 0)
	}
	return n
}

func macs(g *model.Subgraph) (n int) {
	for i := range g.Ops {
		op := &g.Ops[i]
		if len(op.Inputs) < 2 || op.Inputs[0] < 0 || op.Inputs[1] < 0 || len(op.Outputs) == 0 {
			continue
		}
		w, out := g.Tensors[op.Inputs[1]].Shape, elements(g.Tensors[op.Outputs[0]].Shape)
		switch {
		case op.Code == "CONV_2D" && len(w) == 4, op.Code == "FULLY_CONNECTED" && len(w) == 2:
			n += out * elements(w[1:])
		case op.Code == "DEPTHWISE_CONV_2D" && len(w) == 4:
			n += out * w[1] * w[2]
		case op.Code == "TRANSPOSE_CONV" && len(w) == 4 && len(op.Inputs) > 2 && op.Inputs[2] >= 0:
			n += elements(g.Tensors[op.Inputs[2]].Shape) * w[0] * w[1] * w[2]
		case op.Code == "BATCH_MATMUL" && len(w) > 1:
			a := g.Tensors[op.Inputs[0]].Shape
			n += out * a[len(a)-1]
		}
	}
	return n
}

// peak follows values from where they are computed to where they are last
// taken.
func peak(g *model.Subgraph) (most int) {
	last := map[int]int{}
	for i, op := range g.Ops {
		for _, t := range append(append([]int{}, op.Inputs...), op.Outputs...) {
			last[t] = i
		}
	}
	for _, t := range g.Outputs {
		last[t] = len(g.Ops)
	}
	live := map[int]bool{}
	for _, t := range g.Inputs {
		live[t] = true
	}
	for i := range g.Tensors {
		if g.Tensors[i].Variable {
			live[i], last[i] = true, len(g.Ops)
		}
	}
	sum := func() (n int) {
		for t := range live {
			n += elements(g.Tensors[t].Shape) * g.Tensors[t].Type.Bits() / 8
		}
		return n
	}
	most = sum()
	for i, op := range g.Ops {
		for _, t := range op.Outputs {
			if t >= 0 {
				live[t] = true
			}
		}
		most = max(most, sum())
		for t := range live {
			if last[t] <= i {
				delete(live, t)
			}
		}
	}
	return most
}

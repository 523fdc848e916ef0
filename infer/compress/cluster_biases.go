package compress

import (
	"fmt"
	"math"

	"edgegateway/infer/model"
)

// SharedBiases says what became of the biases of a model.
type SharedBiases struct {
	Biases int     `json:"biases"`
	Before int     `json:"values_before"` // different ones of all layers together
	Values int     `json:"values"`
	RMS    float64 `json:"rms_error"` // root of the mean squared change
}

// ShareBiases makes the biases of each convolution and dense layer share at most
// cfg.Clusters values, as Cluster does with weights. It is the last step, since
// training lets biases go where they like: in a packed model with few weights
// left, biases of their own are a tenth of the bytes. The values are rounded to
// the 16 bits of a bfloat16, an error of at most 1/512 of each, less than that of
// the sharing; the rest is 0, which packs. m, a float model, is not changed.
func ShareBiases(m *model.Model, cfg ClusterConfig) (*model.Model, *SharedBiases, error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	if err := CheckFloat(m); err != nil {
		return nil, nil, err
	}
	m = m.Clone()
	g, r := m.Main(), &SharedBiases{}
	seen := map[int]bool{}
	sq := 0.0
	for i := range g.Ops {
		op := &g.Ops[i]
		if _, ok := sharing(op.Code); !ok || len(op.Inputs) < 3 || op.Inputs[2] < 0 || seen[op.Inputs[2]] {
			continue
		}
		seen[op.Inputs[2]] = true
		t := &g.Tensors[op.Inputs[2]]
		if !t.Constant() || t.Type != model.Float32 || t.Sparsity != nil {
			continue
		}
		old, err := t.Floats()
		if err != nil {
			return nil, nil, fmt.Errorf("op %d %s: %w", i, op.Code, err)
		}
		v := append([]float32(nil), old...)
		for j, x := range v {
			if x-x != 0 {
				return nil, nil, fmt.Errorf("op %d %s: bias %d is %v", i, op.Code, j, x)
			}
		}
		share(v, stretch{run: len(v), step: len(v), n: 1}, cfg)
		for j, x := range v {
			v[j] = short(x)
		}
		for j, x := range v {
			d := float64(x) - float64(old[j])
			sq += d * d
		}
		r.Biases, r.Before, r.Values = r.Biases+len(v), r.Before+distinct(old), r.Values+distinct(v)
		t.Buffer = model.FloatBytes(v)
	}
	if r.Biases > 0 {
		r.RMS = math.Sqrt(sq / float64(r.Biases))
	}
	return m, r, nil
}

// short is the nearest number whose last 16 bits are 0, the even one of two.
func short(x float32) float32 {
	b := math.Float32bits(x)
	if r := math.Float32frombits((b + 0x7fff + b>>16&1) &^ 0xffff); !math.IsInf(float64(r), 0) {
		return r
	}
	return math.Float32frombits(b &^ 0xffff)
}

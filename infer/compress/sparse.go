package compress

import (
	"context"
	"fmt"
	"math"
	"slices"

	"edgegateway/infer/model"
)

// Sparse stores int8 weights of which most are 0 in compressed sparse rows, with
// a DENSIFY before the layer that takes them: this runtime unpacks them when it
// loads the model, and computes as before. It is done where the file becomes
// smaller by it; changed says for how many constants. m is not changed.
func Sparse(m *model.Model) (thin *model.Model, changed int, err error) {
	thin = m.Clone()
	g := thin.Main()
	done := map[int]int{} // constants, and what is computed of them
	var unpack []model.Op
	for i := range g.Ops {
		op := &g.Ops[i]
		if _, ok := linear(op.Code); !ok || len(op.Inputs) < 2 || op.Inputs[1] < 0 {
			continue
		}
		w := op.Inputs[1]
		if _, ok := done[w]; !ok {
			t := g.Tensors[w]
			if !t.Constant() || t.Type != model.Int8 || t.Sparsity != nil || len(t.Shape) < 2 {
				continue
			}
			stored := compressed(t)
			if stored.Buffer == nil {
				continue
			}
			back, err := stored.Dense()
			if err != nil || !slices.Equal(back.Buffer, t.Buffer) {
				return nil, 0, fmt.Errorf("op %d %s: its weights do not come back from sparse rows: %v", i, op.Code, err)
			}
			stored.Name += "/sparse"
			whole := t
			whole.Buffer = nil
			done[w] = g.Add(whole)
			unpack = append(unpack, model.Op{Code: "DENSIFY", Version: 1, Inputs: []int{g.Add(stored)}, Outputs: []int{done[w]}, Builtin: &model.DensifyOptions{}})
		}
		op.Inputs[1] = done[w]
	}
	g.Insert(0, unpack...)
	thin.Tidy()
	return thin, len(done), nil
}

// tableBytes is about what the tables of a sparse constant and its DENSIFY take
// in the file, scaleBytes what each of its scales does, which stand there twice.
const (
	tableBytes = 512
	scaleBytes = 12
)

// compressed is a constant in rows along its last dimension, of single values or
// of blocks of 2, 4 or 8, whatever takes least; without bytes where none takes
// less than it does dense.
func compressed(t model.Tensor) model.Tensor {
	best, least := model.Tensor{}, len(t.Buffer)-tableBytes-scaleBytes*len(t.Quant.Scale)
	last := t.Shape[len(t.Shape)-1]
	for _, block := range []int{1, 2, 4, 8} {
		if last%block != 0 {
			continue
		}
		var bytes []byte
		segments, indices := []int32{0}, []int32{}
		for row := 0; row < len(t.Buffer); row += last {
			for c := 0; c < last; c += block {
				b := t.Buffer[row+c : row+c+block]
				if slices.ContainsFunc(b, func(v byte) bool { return v != 0 }) {
					bytes, indices = append(bytes, b...), append(indices, int32(c/block))
				}
			}
			segments = append(segments, int32(len(indices)))
		}
		size := len(bytes) + len(segments)*indexBytes(segments[len(segments)-1]) + len(indices)*indexBytes(int32(last/block-1))
		// A reader does not unpack what is a thousand times what is stored.
		if size >= least || len(bytes) < len(t.Buffer)/500 {
			continue
		}
		best, least = t, size
		best.Buffer = bytes
		s := &model.Sparsity{}
		for d, n := range t.Shape {
			s.Traversal = append(s.Traversal, d)
			s.Dims = append(s.Dims, model.SparseDim{Size: n})
		}
		s.Dims[len(t.Shape)-1] = model.SparseDim{Sparse: true, Segments: segments, Indices: indices}
		if block > 1 {
			s.Traversal = append(s.Traversal, len(t.Shape))
			s.BlockMap = []int{len(t.Shape) - 1}
			s.Dims = append(s.Dims, model.SparseDim{Size: block})
		}
		best.Sparsity = s
	}
	return best
}

// indexBytes is what an index of a vector takes whose largest is top.
func indexBytes(top int32) int {
	switch {
	case top <= math.MaxUint8:
		return 1
	case top <= math.MaxUint16:
		return 2
	}
	return 4
}

// worthSparse is how much of its bytes a file must at most keep to be stored
// sparse: it takes longer to load.
const worthSparse = 0.8

// thin stores what was made sparse where that pays, and where both kinds of
// kernels answer then to the last bit as they did.
func (j *Job) thin(ctx context.Context, made *Made) error {
	m, n, err := Sparse(made.Model)
	if err != nil {
		return err
	}
	file, err := m.Write()
	if err != nil {
		return err
	}
	if float64(len(file)) > worthSparse*float64(len(made.File)) {
		made.Notes = append(made.Notes, fmt.Sprintf("weights stay dense: stored sparse the file would have %d bytes and not %d", len(file), len(made.File)))
		return nil
	}
	for _, on := range []string{"builtin", "xnnpack:3"} {
		a, err := compare(ctx, made.File, file, [2]string{on, on}, j.Library, sparse{j.Calibration, few}, nil)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || a.Largest != 0 {
			made.Notes = append(made.Notes, fmt.Sprintf("weights stay dense: stored sparse, %s answers otherwise: by up to %v, %v", on, a.Largest, err))
			return nil
		}
	}
	made.Notes = append(made.Notes, fmt.Sprintf("weights of %d layers are stored sparse: %d bytes, dense %d; the answers are the same to the last bit", n, len(file), len(made.File)))
	made.Model, made.File = m, file
	return nil
}

package compress

import (
	"slices"

	"edgegateway/infer/model"
)

// bridges puts QUANTIZE and DEQUANTIZE where integers and floats meet, and
// where a kernel wants another scale than its input has.
func (q *quantizer) bridges() {
	g := q.g
	asFloat := map[int]int{} // the float twin of a quantized tensor
	asInt := map[int]int{}   // the quantized twin of a float tensor
	// Graph inputs that are quantized become integers, or get a QUANTIZE.
	var ops []model.Op
	for n, in := range g.Inputs {
		if !has(q.quant, in) {
			continue
		}
		if q.cfg.FloatIO || q.takenAsFloat(in) {
			twin := g.Tensors[in]
			twin.Name += "/" + q.cfg.Scheme
			t := g.Add(q.quantized(twin, q.quant[in]))
			asInt[in] = t
			ops = append(ops, quantizeOp(in, t))
			continue
		}
		g.Tensors[in] = q.quantized(g.Tensors[in], q.quant[in])
		asInt[in] = g.Inputs[n]
	}
	for i := range g.Ops {
		op := g.Ops[i]
		if q.left[i] {
			for n, in := range op.Inputs {
				if in >= 0 && has(q.quant, in) && asInt[in] == in {
					ops = append(ops, q.toFloat(in, asFloat)...)
					op.Inputs[n] = asFloat[in]
				}
			}
			ops = append(ops, op)
			// What quantized operators take of it is quantized at once.
			for _, o := range op.Outputs {
				if has(q.quant, o) {
					twin := g.Tensors[o]
					twin.Name += "/" + q.cfg.Scheme
					t := g.Add(q.quantized(twin, q.quant[o]))
					asInt[o] = t
					ops = append(ops, quantizeOp(o, t))
				}
			}
			continue
		}
		for n, in := range op.Inputs {
			if in < 0 || !has(q.quant, in) {
				continue
			}
			op.Inputs[n] = asInt[in]
			if slices.Contains(same, op.Code) && !sameQuant(q.quant[in], q.quant[op.Outputs[0]]) {
				twin := g.Tensors[asInt[in]]
				twin.Name += "/rescaled"
				t := g.Add(q.quantized(twin, q.quant[op.Outputs[0]]))
				ops = append(ops, quantizeOp(asInt[in], t))
				op.Inputs[n] = t
			}
		}
		for _, o := range op.Outputs {
			g.Tensors[o] = q.quantized(g.Tensors[o], q.quant[o])
			asInt[o] = o
		}
		ops = append(ops, op)
	}
	for n, o := range g.Outputs {
		if q.cfg.FloatIO && asInt[o] == o && has(q.quant, o) {
			ops = append(ops, q.toFloat(o, asFloat)...)
			g.Outputs[n] = asFloat[o]
		}
	}
	for s := range q.m.Signatures {
		sig := &q.m.Signatures[s]
		for k := range sig.Outputs {
			if f, ok := asFloat[sig.Outputs[k].Tensor]; ok && q.cfg.FloatIO {
				sig.Outputs[k].Tensor = f
			}
		}
	}
	g.Ops = ops
}

// takenAsFloat says whether an operator that stays float takes a graph input.
func (q *quantizer) takenAsFloat(in int) bool {
	for _, c := range q.g.Consumers(in) {
		if q.left[c] {
			return true
		}
	}
	return false
}

func (q *quantizer) toFloat(t int, asFloat map[int]int) []model.Op {
	if _, ok := asFloat[t]; ok {
		return nil
	}
	twin := q.g.Tensors[t]
	twin.Name, twin.Type, twin.Quant = twin.Name+"/float", model.Float32, model.Quantization{}
	asFloat[t] = q.g.Add(twin)
	return []model.Op{{Code: "DEQUANTIZE", Version: 2, Inputs: []int{t}, Outputs: []int{asFloat[t]}, Builtin: &model.DequantizeOptions{}}}
}

func (q *quantizer) quantized(t model.Tensor, by model.Quantization) model.Tensor {
	t.Type, t.Quant = q.valueType(), model.Quantization{Scale: slices.Clone(by.Scale), ZeroPoint: slices.Clone(by.ZeroPoint)}
	return t
}

func quantizeOp(from, to int) model.Op {
	return model.Op{Code: "QUANTIZE", Version: 2, Inputs: []int{from}, Outputs: []int{to}, Builtin: &model.QuantizeOptions{}}
}

func sameQuant(a, b model.Quantization) bool {
	return slices.Equal(a.Scale, b.Scale) && slices.Equal(a.ZeroPoint, b.ZeroPoint)
}

package compress

import (
	"fmt"
	"maps"
	"slices"

	"edgegateway/infer/model"
)

// full makes values and weights integers, operator by operator.
func (q *quantizer) full() error {
	q.left, q.quant = map[int]bool{}, map[int]model.Quantization{}
	for i := range q.g.Ops {
		if why := q.stays(i); why != "" {
			q.keep(i, why)
		}
	}
	q.scales()
	if err := q.constants(); err != nil {
		return err
	}
	q.bridges()
	return nil
}

// active are the tensors that become integers: what quantized operators take
// and give.
func (q *quantizer) active() map[int]bool {
	a := map[int]bool{}
	for i := range q.g.Ops {
		if q.left[i] {
			continue
		}
		op := &q.g.Ops[i]
		ins := q.floats(op)
		if _, ok := linear(op.Code); ok {
			ins = ins[:1]
			if op.Code == "TRANSPOSE_CONV" {
				ins = []int{op.Inputs[2]}
			}
		}
		for _, t := range slices.Concat(ins, op.Outputs) {
			if q.g.Tensors[t].Type == model.Float32 && !q.g.Tensors[t].Constant() {
				a[t] = true
			}
		}
	}
	return a
}

// scales gives every active tensor its scale. Tensors that must have the same
// one form a group, whose range is that of all its members.
func (q *quantizer) scales() {
	active := q.active()
	group := map[int]int{}
	var find func(int) int
	find = func(t int) int {
		if p, ok := group[t]; ok && p != t {
			group[t] = find(p)
			return group[t]
		}
		return t
	}
	forced := map[int]model.Quantization{}
	for i := range q.g.Ops {
		op := &q.g.Ops[i]
		if q.left[i] {
			continue
		}
		if g, ok := given[op.Code]; ok {
			if q.wide {
				g = given16
			}
			forced[op.Outputs[0]] = g
		}
	}
	for i := range q.g.Ops {
		op := &q.g.Ops[i]
		if q.left[i] || !slices.Contains(same, op.Code) {
			continue
		}
		out := op.Outputs[0]
		for _, in := range q.floats(op) {
			// What has its scale from its kernel keeps it; a QUANTIZE will stand
			// between.
			if active[in] && !has(forced, in) && !has(forced, out) {
				if a, b := find(in), find(out); a != b {
					group[a] = b
				}
			}
		}
	}
	// A range that is given goes before those that were seen in its group.
	told := map[int]bool{}
	given := func(t int) bool { _, ok := q.fixed[q.g.Tensors[t].Name]; return ok }
	for t := range active {
		if given(t) {
			told[find(t)] = true
		}
	}
	low, high := map[int]float64{}, map[int]float64{}
	for _, t := range slices.Sorted(maps.Keys(active)) {
		if told[find(t)] && !given(t) {
			continue
		}
		l, h := q.rangeOf(t)
		r := find(t)
		low[r], high[r] = min(low[r], l), max(high[r], h)
	}
	// XNNPACK takes no sum with steps of a 256th of a term's: a sum that seems
	// to be constant covers some more than was seen.
	for i := range q.g.Ops {
		op := &q.g.Ops[i]
		if q.left[i] || op.Code != "ADD" && op.Code != "SUB" {
			continue
		}
		for _, in := range op.Inputs {
			if !active[in] {
				continue
			}
			term, ok := forced[in]
			if r := find(in); !ok {
				term = scaleOf(low[r], high[r], q.wide)
			}
			r, least := find(op.Outputs[0]), 2*float64(term.Scale[0])
			if high[r]-low[r] < least {
				high[r] = low[r] + least
			}
		}
	}
	for t := range active {
		if f, ok := forced[t]; ok {
			q.quant[t] = f
			continue
		}
		r := find(t)
		q.quant[t] = scaleOf(low[r], high[r], q.wide)
	}
}

func has(m map[int]model.Quantization, t int) bool { _, ok := m[t]; return ok }

// rangeOf is what a tensor is to cover.
func (q *quantizer) rangeOf(t int) (low, high float64) {
	if r, ok := q.fixed[q.g.Tensors[t].Name]; ok {
		return r[0], r[1]
	}
	levels := 255
	if q.wide {
		levels = 65535
	}
	if s := q.stats[t]; s != nil {
		return s.Range(q.cfg.Method, q.cfg.Keep, levels)
	}
	return 0, 0
}

// constants stores weights, biases and other constants of quantized operators
// as integers, and gives the operators their versions.
func (q *quantizer) constants() error {
	k := 0
	if q.wide {
		k = 1
	}
	for i := range q.g.Ops {
		if q.left[i] {
			continue
		}
		op := &q.g.Ops[i]
		op.Version = versions[op.Code][k]
		if o, ok := op.Builtin.(*model.AddOptions); ok {
			o.PotScaleInt16 = false
		}
		if dim, ok := linear(op.Code); ok {
			if err := q.weights(i, dim); err != nil {
				return err
			}
			continue
		}
		for n, in := range op.Inputs {
			if in < 0 || !q.g.Tensors[in].Constant() || q.g.Tensors[in].Type != model.Float32 {
				continue
			}
			if err := q.operand(op, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// weights makes the weights and the bias of a linear operator integers.
func (q *quantizer) weights(i, dim int) error {
	op := &q.g.Ops[i]
	value := op.Inputs[0]
	if op.Code == "TRANSPOSE_CONV" {
		value = op.Inputs[2]
	}
	t := q.g.Tensors[op.Inputs[1]]
	v, err := t.Floats()
	if err != nil {
		return fmt.Errorf("%s: %w", q.opName(i), err)
	}
	quantizeWeights(&t, v, dim)
	in := q.quant[value].Scale[0]
	b := biasOf(op)
	if b < 0 || op.Inputs[b] < 0 {
		op.Inputs[1] = q.g.Add(t)
		return nil
	}
	bias := q.g.Tensors[op.Inputs[b]]
	bv, err := bias.Floats()
	if err != nil {
		return fmt.Errorf("%s: its bias: %w", q.opName(i), err)
	}
	if q.cfg.CorrectBias != "no" {
		if s := q.stats[value]; s != nil {
			correct(bv, op.Code, &t, v, s.Mean)
		}
	}
	// Where a bias does not fit its 32 bits (40 beside int16), the weights' scale
	// grows until it does: a channel of almost nothing but bias.
	grow, room := false, float64(1<<30)
	if q.wide {
		room = 1 << 38
	}
	for c := range t.Quant.Scale {
		least := float32(absAt(bv, c, len(t.Quant.Scale)) / room / float64(in))
		if t.Quant.Scale[c] < least {
			t.Quant.Scale[c], grow = least, true
		}
	}
	if grow {
		requantize(&t, v, dim)
	}
	if quantizeBias(&bias, bv, in, t.Quant.Scale, q.wide) {
		q.out.Notes = append(q.out.Notes, q.opName(i)+": a bias was cut")
	}
	op.Inputs[1] = q.g.Add(t)
	op.Inputs[b] = q.g.Add(bias)
	return nil
}

// biasOf is where an operator's bias stands among its inputs, -1 without.
func biasOf(op *model.Op) int {
	n := 2
	if op.Code == "TRANSPOSE_CONV" {
		n = 3
	}
	if len(op.Inputs) <= n {
		return -1
	}
	return n
}

// absAt is the largest magnitude of the biases that scale c is for.
func absAt(bias []float32, c, scales int) (top float64) {
	for i, b := range bias {
		if scales == 1 || i == c {
			top = max(top, max(float64(b), -float64(b)))
		}
	}
	return top
}

// requantize stores weights by the scales that are there.
func requantize(t *model.Tensor, v []float32, dim int) {
	b := make([]byte, len(v))
	inner := len(v)
	if dim >= 0 {
		inner = 1
		for _, d := range t.Shape[dim+1:] {
			inner *= d
		}
	}
	for i, x := range v {
		s := t.Quant.Scale[i/inner%len(t.Quant.Scale)]
		b[i] = byte(roundInt8(float64(x) / float64(s)))
	}
	t.Buffer = b
}

// correct takes the mean error that rounded weights make out of the bias:
// b -= sum over the inputs of (w_q - w) E[x] (arXiv:1906.04721, section 4.2).
// mean is E[x] of each channel of the input.
func correct(bias []float32, code string, q *model.Tensor, w []float32, mean []float64) {
	rounded, err := q.Floats()
	if err != nil {
		return
	}
	for i := range w {
		d := float64(rounded[i]) - float64(w[i])
		out, in := i/(len(w)/len(bias)), i%len(mean)
		if code == "DEPTHWISE_CONV_2D" {
			out = i % len(bias)
			in = out * len(mean) / len(bias) // those of one input channel lie together
		}
		bias[out] -= float32(d * mean[in])
	}
}

// operand makes a constant that is added, multiplied or joined an integer.
func (q *quantizer) operand(op *model.Op, n int) error {
	t := q.g.Tensors[op.Inputs[n]]
	v, err := t.Floats()
	if err != nil {
		return err
	}
	low, high := 0.0, 0.0
	for _, x := range v {
		low, high = min(low, float64(x)), max(high, float64(x))
	}
	t.Quant = scaleOf(low, high, q.wide)
	out := q.quant[op.Outputs[0]]
	// XNNPACK takes no term whose steps are a thousandth of the sum's: what is
	// so small is lost in it anyway.
	if least := out.Scale[0] / 512; (op.Code == "ADD" || op.Code == "SUB") && t.Quant.Scale[0] < least {
		t.Quant.Scale[0] = least
	}
	if slices.Contains(same, op.Code) {
		t.Quant = out
	}
	t.Type, t.Buffer = q.integers(v, t.Quant)
	t.Name += "/" + q.cfg.Scheme
	op.Inputs[n] = q.g.Add(t)
	return nil
}

func (q *quantizer) integers(v []float32, to model.Quantization) (model.Type, []byte) {
	var b []byte
	for _, x := range v {
		r := float64(x)/float64(to.Scale[0]) + float64(to.ZeroPoint[0])
		if q.wide {
			n := int16(min(max(roundEven(r), -32768), 32767))
			b = append(b, byte(n), byte(n>>8))
		} else {
			b = append(b, byte(roundInt8(r)))
		}
	}
	if q.wide {
		return model.Int16, b
	}
	return model.Int8, b
}

func (q *quantizer) valueType() model.Type {
	if q.wide {
		return model.Int16
	}
	return model.Int8
}

package compress

import (
	"fmt"
	"slices"

	"edgegateway/infer/model"
)

// Left is an operator that stays float, and why.
type Left struct {
	Op  string `json:"op"`
	Why string `json:"why"`
}

// Outcome says what was made of a model.
type Outcome struct {
	Model *model.Model `json:"-"`
	Left  []Left       `json:"left_float,omitempty"`
	Notes []string     `json:"notes,omitempty"`
}

// Quantize makes a shorter model of a float one. stats is what Calibrate saw of
// m, for the schemes that need it; fixed are ranges by the name of a tensor
// that go before, of quantization-aware training. m is not changed.
func Quantize(m *model.Model, cfg Config, stats map[int]*Stats, fixed map[string][2]float64) (*Outcome, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := CheckFloat(m); err != nil {
		return nil, err
	}
	q := &quantizer{cfg: cfg, m: m.Clone(), stats: stats, fixed: fixed, out: &Outcome{}, wide: cfg.Scheme == "int16"}
	q.g = q.m.Main()
	q.out.Model = q.m
	var err error
	switch cfg.Scheme {
	case "float16":
		q.halves()
	case "dynamic":
		err = q.dynamic()
	default:
		if stats == nil {
			return nil, fmt.Errorf("scheme %s: calibration data is needed", cfg.Scheme)
		}
		err = q.full()
	}
	if err != nil {
		return nil, err
	}
	q.m.Tidy()
	return q.out, nil
}

// CheckFloat refuses a model whose numbers are integers already, or that has
// several graphs: none of that can be pruned, clustered or quantized.
func CheckFloat(m *model.Model) error {
	if len(m.Subgraphs) != 1 {
		return fmt.Errorf("the model has %d subgraphs; only the weights of those of one are changed", len(m.Subgraphs))
	}
	for i := range m.Main().Tensors {
		t := &m.Main().Tensors[i]
		if len(t.Quant.Scale) > 0 && (t.Type == model.Int8 || t.Type == model.Uint8 || t.Type == model.Int16) {
			return fmt.Errorf("it holds integers: tensor %q is %s already; give the float model that it was quantized from; pack takes it as it is", t.Name, t.Type)
		}
	}
	return nil
}

// quantizer rewrites its copy of a model.
type quantizer struct {
	cfg   Config
	m     *model.Model
	g     *model.Subgraph
	stats map[int]*Stats
	fixed map[string][2]float64
	out   *Outcome
	wide  bool // values are int16

	quant map[int]model.Quantization // of computed tensors that are quantized
	left  map[int]bool               // operators that stay float
}

func (q *quantizer) opName(i int) string { return fmt.Sprintf("op %d %s", i, q.g.Ops[i].Code) }

// linear says where the weights of an operator are, and along which dimension
// each slice has a scale of its own; -1 for one scale.
func linear(code string) (dim int, ok bool) {
	switch code {
	case "CONV_2D", "TRANSPOSE_CONV":
		return 0, true
	case "DEPTHWISE_CONV_2D":
		return 3, true
	case "FULLY_CONNECTED":
		return -1, true // this runtime answers zeros with several
	}
	return 0, false
}

// weightOf gives the constant float weights of a linear operator, -1 without.
func (q *quantizer) weightOf(op *model.Op) int {
	if _, ok := linear(op.Code); !ok || len(op.Inputs) < 2 {
		return -1
	}
	i := op.Inputs[1]
	if i < 0 || !q.g.Tensors[i].Constant() || q.g.Tensors[i].Type != model.Float32 {
		return -1
	}
	return i
}

// halves stores float constants as float16 behind a DEQUANTIZE.
func (q *quantizer) halves() {
	for i := len(q.g.Tensors) - 1; i >= 0; i-- {
		t := &q.g.Tensors[i]
		if t.Type != model.Float32 || !t.Constant() || t.Sparsity != nil || t.Elements() < worthIt {
			continue
		}
		v, err := t.Floats()
		if err != nil {
			continue
		}
		half := *t
		half.Name += "/float16"
		half.Type, half.Buffer = model.Float16, model.HalfBytes(v)
		t.Buffer = nil
		h := q.g.Add(half)
		q.g.Insert(0, model.Op{Code: "DEQUANTIZE", Version: 3, Inputs: []int{h}, Outputs: []int{i}, Builtin: &model.DequantizeOptions{}})
	}
}

// dynamic stores the weights of linear operators as int8; the runtime rounds
// values as it goes.
func (q *quantizer) dynamic() error {
	for i := range q.g.Ops {
		op := &q.g.Ops[i]
		if slices.Contains(q.cfg.Float, i) {
			q.keep(i, "asked for")
			continue
		}
		w := q.weightOf(op)
		if w < 0 || op.Code == "TRANSPOSE_CONV" {
			if _, ok := linear(op.Code); ok {
				q.keep(i, "its weights are no float constant, or its kernel takes none of int8 beside float values")
			}
			continue
		}
		t := q.g.Tensors[w]
		if t.Elements() < worthIt {
			q.keep(i, fmt.Sprintf("%d weights are too few to gain by it", t.Elements()))
			continue
		}
		v, err := t.Floats()
		if err != nil {
			return err
		}
		dim, _ := linear(op.Code)
		quantizeWeights(&t, v, dim)
		switch o := op.Builtin.(type) {
		case *model.FullyConnectedOptions:
			o.AsymmetricQuantizeInputs = true
			op.Version = 9
		default:
			op.Version = 5
			if op.Code == "DEPTHWISE_CONV_2D" {
				op.Version = 6
			}
		}
		op.Inputs[1] = q.g.Add(t)
	}
	return nil
}

func (q *quantizer) keep(op int, why string) {
	q.out.Left = append(q.out.Left, Left{q.opName(op), why})
	if q.left != nil {
		q.left[op] = true
	}
}

// versions of operators for int8 and for int16 values; 0: this runtime has no
// such kernel. What is not here stays float.
var versions = map[string][2]int{
	"CONV_2D": {3, 4}, "DEPTHWISE_CONV_2D": {3, 5}, "FULLY_CONNECTED": {4, 7}, "TRANSPOSE_CONV": {2, 0},
	"AVERAGE_POOL_2D": {2, 3}, "MAX_POOL_2D": {2, 3}, "SOFTMAX": {2, 3}, "LOGISTIC": {2, 3}, "TANH": {2, 3},
	"ADD": {2, 3}, "SUB": {3, 0}, "MUL": {2, 4}, "CONCATENATION": {2, 3}, "RESHAPE": {1, 1}, "SQUEEZE": {1, 1},
	"EXPAND_DIMS": {1, 1}, "PAD": {2, 3}, "MEAN": {2, 3}, "RELU": {2, 0}, "RELU6": {2, 0}, "TRANSPOSE": {2, 4},
	"RESIZE_BILINEAR": {2, 0}, "RESIZE_NEAREST_NEIGHBOR": {2, 0}, "MAXIMUM": {2, 0}, "MINIMUM": {2, 0},
	"SLICE": {2, 0}, "STRIDED_SLICE": {2, 0}, "LEAKY_RELU": {2, 0}, "HARD_SWISH": {1, 0}, "L2_NORMALIZATION": {2, 0},
}

// same are operators whose output has the scale of their input.
var same = []string{"AVERAGE_POOL_2D", "MAX_POOL_2D", "CONCATENATION", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "PAD",
	"TRANSPOSE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "MAXIMUM", "MINIMUM", "SLICE", "STRIDED_SLICE"}

// given are the output scales that kernels demand.
var given = map[string]model.Quantization{
	"SOFTMAX":          {Scale: []float32{1.0 / 256}, ZeroPoint: []int64{-128}},
	"LOGISTIC":         {Scale: []float32{1.0 / 256}, ZeroPoint: []int64{-128}},
	"TANH":             {Scale: []float32{1.0 / 128}, ZeroPoint: []int64{0}},
	"L2_NORMALIZATION": {Scale: []float32{1.0 / 128}, ZeroPoint: []int64{0}},
}

// given16 is the same for int16 values.
var given16 = model.Quantization{Scale: []float32{1.0 / 32768}, ZeroPoint: []int64{0}}

// floats are the inputs of an operator that are real numbers: not shapes, axes
// and the like.
func (q *quantizer) floats(op *model.Op) (list []int) {
	for _, i := range op.Inputs {
		if i >= 0 && q.g.Tensors[i].Type == model.Float32 {
			list = append(list, i)
		}
	}
	return list
}

// stays says why an operator stays float, "" where it is quantized.
func (q *quantizer) stays(i int) string {
	op := &q.g.Ops[i]
	if slices.Contains(q.cfg.Float, i) {
		return "asked for"
	}
	v, ok := versions[op.Code]
	k := 0
	if q.wide {
		k = 1
	}
	if op.Custom || !ok || v[k] == 0 {
		return fmt.Sprintf("this runtime has no kernel of it for %s values", q.cfg.Scheme)
	}
	for _, o := range op.Outputs {
		if t := &q.g.Tensors[o]; t.Type != model.Float32 || q.stats[o] == nil {
			return "its outputs are no float values"
		}
	}
	if _, ok := linear(op.Code); ok {
		if q.weightOf(op) < 0 {
			return "its weights are no float constant"
		}
		return ""
	}
	constant, value := false, -1
	for _, in := range q.floats(op) {
		if q.g.Tensors[in].Constant() {
			constant = true
		} else {
			value = in
		}
	}
	if constant && value >= 0 && q.atEntry(op) {
		if len(q.g.Tensors[value].Shape) != 4 {
			return "it makes inputs of different scales comparable; one int8 scale for all of them would lose the small ones"
		}
		if s := q.stats[value]; s != nil && s.offset() {
			return "its inputs lie far from 0 and close together; an int8 scale, which holds 0, would not tell them apart"
		}
	}
	return ""
}

// atEntry says whether an operator with constants works on the model's inputs
// as they come.
func (q *quantizer) atEntry(op *model.Op) bool {
	if !slices.Contains([]string{"ADD", "SUB", "MUL", "DIV"}, op.Code) {
		return false
	}
	for _, in := range op.Inputs {
		if in < 0 || q.g.Tensors[in].Constant() {
			continue
		}
		if slices.Contains(q.g.Inputs, in) {
			continue
		}
		p := q.g.Producer(in)
		if p < 0 || !q.left[p] {
			return false
		}
	}
	return true
}

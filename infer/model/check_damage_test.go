package model

import (
	"encoding/binary"
	"math"
	"os"
	"strings"
	"testing"

	"edgegateway/infer/model/internal/schema"
	"edgegateway/internal/testkit"
)

// Each of these fields, damaged, ends the process that runs the model, keeps it
// for ever, or makes every answer NaN: the check says which it is. Undamaged
// the models are taken.
func TestCheckDamage(t *testing.T) {
	op := func(g *Subgraph, code string) *Op {
		for i := range g.Ops {
			if g.Ops[i].Code == code {
				return &g.Ops[i]
			}
		}
		t.Fatalf("no %s", code)
		return nil
	}
	tensor := func(g *Subgraph, code string, input int) *Tensor { return &g.Tensors[op(g, code).Inputs[input]] }
	value := func(x *Tensor, i int, v float64) {
		b := append([]byte(nil), x.Buffer...)
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(float32(v)))
		x.Buffer = b
	}
	scale := func(x *Tensor, s float32) { x.Quant.Scale = []float32{s} }
	const resnet, resnet8, lstm, lstm8 = "pretrainedResnet", "pretrainedResnet_quant", "trained_lstm", "trained_lstm_int8"
	for name, c := range map[string]struct {
		model  string
		damage func(g *Subgraph)
		words  []string
	}{
		"a weight of a flipped bit": {resnet, func(g *Subgraph) { value(tensor(g, "CONV_2D", 1), 7, -1.6e37) }, []string{"op 0 CONV_2D", "weight 7", "-1.6e+37"}},
		"a weight of NaN":           {resnet, func(g *Subgraph) { value(tensor(g, "FULLY_CONNECTED", 1), 3, math.NaN()) }, []string{"FULLY_CONNECTED", "weight 3", "NaN"}},
		"an infinite weight":        {resnet, func(g *Subgraph) { value(tensor(g, "FULLY_CONNECTED", 1), 3, math.Inf(1)) }, []string{"+Inf"}},
		"a bias of NaN":             {resnet, func(g *Subgraph) { value(tensor(g, "FULLY_CONNECTED", 2), 9, math.NaN()) }, []string{"bias 9", "NaN"}},
		"a scale of a flipped bit":  {resnet8, func(g *Subgraph) { scale(tensor(g, "AVERAGE_POOL_2D", 0), 1e37) }, []string{"op 12 AVERAGE_POOL_2D", "1e+37", "multiplier of 7.87e+37"}},
		"a scale of almost nothing": {resnet8, func(g *Subgraph) { scale(&g.Tensors[op(g, "ADD").Outputs[0]], 1e-45) }, []string{"ADD", "multiplier"}},
		"a scale of 0":              {resnet8, func(g *Subgraph) { scale(tensor(g, "ADD", 0), 0) }, []string{"a scale of 0"}},
		"a softmax of no steepness": {resnet8, func(g *Subgraph) { op(g, "SOFTMAX").Builtin.(*SoftmaxOptions).Beta = 0 }, []string{"SOFTMAX", "beta 0"}},
		"a stride of 0":             {resnet8, func(g *Subgraph) { op(g, "CONV_2D").Builtin.(*Conv2DOptions).StrideH = 0 }, []string{"op 0 CONV_2D", "stride", "of 0"}},
		"a stride of 17 bits":       {resnet8, func(g *Subgraph) { op(g, "CONV_2D").Builtin.(*Conv2DOptions).StrideW = 65536 }, []string{"of 65536"}},
		"a dilation below 0":        {resnet8, func(g *Subgraph) { op(g, "CONV_2D").Builtin.(*Conv2DOptions).DilationHFactor = -1 }, []string{"of -1"}},
		"a window of 0":             {resnet8, func(g *Subgraph) { op(g, "AVERAGE_POOL_2D").Builtin.(*Pool2DOptions).FilterWidth = 0 }, []string{"AVERAGE_POOL_2D", "of 0"}},
		"a padding of no name":      {resnet8, func(g *Subgraph) { op(g, "CONV_2D").Builtin.(*Conv2DOptions).Padding = 7 }, []string{"padding 7"}},
		"an activation of no name":  {resnet8, func(g *Subgraph) { op(g, "CONV_2D").Builtin.(*Conv2DOptions).FusedActivationFunction = -3 }, []string{"activation -3"}},
		"what comes later":          {resnet8, func(g *Subgraph) { op(g, "CONV_2D").Inputs[0] = op(g, "SOFTMAX").Outputs[0] }, []string{"op 0 CONV_2D", "nothing before it computes"}},
		"weights that are gone":     {resnet8, func(g *Subgraph) { tensor(g, "FULLY_CONNECTED", 1).Buffer = nil }, []string{"FULLY_CONNECTED", "nothing before it computes"}},
		"written twice":             {resnet8, func(g *Subgraph) { op(g, "SOFTMAX").Outputs[0] = op(g, "CONV_2D").Outputs[0] }, []string{"SOFTMAX", "writes over"}},
		"an input that is gone":     {resnet8, func(g *Subgraph) { op(g, "FULLY_CONNECTED").Inputs[0] = -1 }, []string{"FULLY_CONNECTED", "input 0 is left out"}},
		"too few inputs":            {resnet8, func(g *Subgraph) { o := op(g, "CONV_2D"); o.Inputs = o.Inputs[:1] }, []string{"1 inputs and needs 2"}},
		"a shape of gigabytes":      {resnet8, func(g *Subgraph) { g.Tensors[g.Inputs[0]].Shape[1] = math.MaxInt32 }, []string{"takes more than"}},
		"a shape of nothing":        {resnet8, func(g *Subgraph) { g.Tensors[g.Inputs[0]].Shape[1] = 0 }, []string{"which holds nothing"}},
		"an output of truths":       {resnet8, func(g *Subgraph) { g.Tensors[op(g, "FULLY_CONNECTED").Outputs[0]].Type = Bool }, []string{"bool", "which it cannot"}},
		"texts":                     {resnet8, func(g *Subgraph) { g.Tensors[op(g, "SOFTMAX").Outputs[0]].Type = String }, []string{"string", "computes numbers"}},
		"a sequence of 4 dimensions": {lstm, func(g *Subgraph) { g.Tensors[g.Inputs[0]].Shape = []int{1, 28, 28, 1} },
			[]string{"UNIDIRECTIONAL_SEQUENCE_LSTM", "[1 28 28 1]"}},
		"a gate that is gone": {lstm8, func(g *Subgraph) { op(g, "UNIDIRECTIONAL_SEQUENCE_LSTM").Inputs[12] = -1 }, []string{"input gate"}},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(testkit.Shared(t, "models/"+c.model+".tflite"))
			if err != nil {
				t.Fatal(err)
			}
			m, err := Read(data)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Check(); err != nil {
				t.Fatalf("undamaged: %v", err)
			}
			if why := m.BuiltinOnly(); why != "" {
				t.Errorf("undamaged: %s", why)
			}
			c.damage(m.Main())
			err = m.Check()
			if err == nil {
				t.Fatal("it is taken")
			}
			for _, w := range c.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in the refusal: %v", w, err)
				}
			}
		})
	}
}

// What masks with infinity is a model as it should be.
func TestInfinityAsMask(t *testing.T) {
	n := newNet()
	in := n.value("in", float32T, []int32{1, 4}, nil)
	mask := n.constant("mask", float32T, []int32{1, 4}, nil, float32s(0, float32(math.Inf(-1)), 0, -math.MaxFloat32))
	out := n.value("out", float32T, []int32{1, 4}, nil)
	n.op(schema.BuiltinOperatorADD, 1, "", []int32{in, mask}, []int32{out}, nil)
	m, err := Read(n.file(in, out))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}

// Shapes of the file that do not fit, and answers that nobody takes, are no
// reason to refuse a model, and one to keep it from XNNPACK.
func TestBuiltinOnly(t *testing.T) {
	data, err := os.ReadFile(testkit.Shared(t, "models/pretrainedResnet.tflite"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		damage func(g *Subgraph)
		words  string
	}{
		"a stride":          {func(g *Subgraph) { g.Ops[0].Builtin.(*Conv2DOptions).StrideH = 3 }, "op 0 CONV_2D"},
		"an earlier answer": {func(g *Subgraph) { g.Ops[len(g.Ops)-1].Inputs[0] = g.Inputs[0] }, "SOFTMAX"},
		"an idle layer":     {func(g *Subgraph) { g.Ops[len(g.Ops)-2].Inputs[0] = g.Ops[len(g.Ops)-3].Inputs[0] }, "nobody takes its answer"},
	} {
		m, err := Read(data)
		if err != nil {
			t.Fatal(err)
		}
		c.damage(m.Main())
		if err := m.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if why := m.BuiltinOnly(); !strings.Contains(why, c.words) {
			t.Errorf("%s: %q", name, why)
		}
	}
}

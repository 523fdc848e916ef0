package compress

import (
	"context"
	"testing"

	"edgegateway/infer/model"
)

// Integer models as their makers published them: what is widened loads, has no
// integers left, and answers as they do, up to their rounding.
func TestWiden(t *testing.T) {
	for _, c := range []struct {
		name, data string
		size       int
		scale      float64
		shift      float64
		top1       float64
	}{
		{"mobilenet_v1_0.25_128_quant.tflite", "cats", 128, 2.0 / 255, -1, 0.8},
		{"vww_96_int8.tflite", "cats", 96, 1.0 / 255, 0, 0.97},
		{"pretrainedResnet_quant.tflite", "cifar10", 32, 1, 0, 0.9},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, file := sharedModel(t, c.name)
			wide, changed, err := Widen(m)
			if err != nil || !changed {
				t.Fatal(changed, err)
			}
			for _, tensor := range wide.Main().Tensors {
				if len(tensor.Quant.Scale) > 0 || tensor.Type == model.Int8 || tensor.Type == model.Uint8 {
					t.Errorf("%s is still %s", tensor.Name, tensor.Type)
				}
			}
			again, changed, err := Widen(wide)
			if err != nil || changed || again != wide {
				t.Errorf("widened twice: %v, %v", changed, err)
			}
			out, err := wide.Write()
			if err != nil {
				t.Fatal(err)
			}
			s, _ := somePictures(t, c.data, 25, c.size, c.size, c.scale)
			for _, row := range s {
				for i := range row {
					row[i] += c.shift
				}
			}
			a, err := Compare(context.Background(), file, out, [2]string{"", "xnnpack:0"}, "", s)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("same first class in %.1f %% of %d, %.3f of the range apart", 100*a.Top1, a.Samples, a.Relative())
			if a.Top1 < c.top1 || a.Relative() > 0.05 {
				t.Errorf("%+v", a)
			}
		})
	}
}

// What this program makes of a float model comes back near to it, with the
// names of its inputs and outputs.
func TestWidenOwn(t *testing.T) {
	file, _, d := trained(t, "ds-cnn")
	for _, scheme := range []string{"int8", "dynamic", "float16"} {
		cfg := DefaultConfig()
		cfg.Scheme = scheme
		made, err := Shorten(context.Background(), Job{File: file, Config: cfg, Calibration: &Samples{Set: d}})
		if err != nil {
			t.Fatal(err)
		}
		wide, changed, err := Widen(made.Model)
		if err != nil {
			t.Fatal(err)
		}
		out, err := wide.Write()
		if err != nil {
			t.Fatal(err)
		}
		a, err := Compare(context.Background(), file, out, [2]string{}, "", &Samples{Set: d})
		if err != nil {
			t.Fatal(err)
		}
		was, _ := model.Read(file)
		g, w := was.Main(), wide.Main()
		if g.Tensors[g.Inputs[0]].Name != w.Tensors[w.Inputs[0]].Name || g.Tensors[g.Outputs[0]].Name != w.Tensors[w.Outputs[0]].Name {
			t.Errorf("%s: other names", scheme)
		}
		if !changed && scheme == "int8" || a.Relative() > 0.02 {
			t.Errorf("%s: %v, %.4f of the range apart", scheme, changed, a.Relative())
		}
	}
}

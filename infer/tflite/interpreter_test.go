package tflite

import (
	"encoding/binary"
	"math"
	"os"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

func library(t testing.TB) *Library {
	t.Helper()
	l, err := Open("")
	if err != nil {
		testkit.Missing(t, "%v", err)
	}
	return l
}

func load(t testing.TB, l *Library, name string) *Model {
	t.Helper()
	data, err := os.ReadFile(testkit.Shared(t, "models/"+name))
	if err != nil {
		t.Fatal(err)
	}
	m, err := l.NewModel(data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestInvoke(t *testing.T) {
	l := library(t)
	m := load(t, l, "hello_world_float.tflite")
	for _, flags := range []int{-1, 0, 3} {
		var o Options
		if flags >= 0 {
			d, err := l.NewXNNPack(1, uint32(flags))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			o.Delegate = d
		}
		in, err := m.NewInterpreter(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []float64{0, 1, 2, 4} {
			binary.LittleEndian.PutUint32(in.Inputs[0].Data, math.Float32bits(float32(x)))
			if err := in.Invoke(); err != nil {
				t.Fatal(err)
			}
			y := float64(math.Float32frombits(binary.LittleEndian.Uint32(in.Outputs[0].Data)))
			if math.Abs(y-math.Sin(x)) > 0.1 {
				t.Errorf("flags %d: sin(%v) is %v", flags, x, y)
			}
		}
		in.Close()
		in.Close()
		if err := in.Invoke(); err != errClosed {
			t.Errorf("a closed interpreter invoked: %v", err)
		}
		if err := in.ResetState(); err != errClosed {
			t.Errorf("a closed interpreter was reset: %v", err)
		}
	}
	m.Close()
	m.Close()
	if _, err := m.NewInterpreter(Options{}); err == nil {
		t.Error("a closed model gave an interpreter")
	}
}

func TestTensors(t *testing.T) {
	l := library(t)
	in, err := load(t, l, "vww_96_int8.tflite").NewInterpreter(Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	x := in.Inputs[0]
	if x.Type != Int8 || len(x.Shape) != 4 || x.Shape[1] != 96 || x.ZeroPoint != -128 || math.Abs(float64(x.Scale)-1.0/255) > 1e-4 || len(x.Data) != 96*96*3 || x.Name == "" {
		t.Errorf("input is %+v", x.Shape)
		t.Errorf("%s %d %v %v", x.Name, x.Type, x.Scale, x.ZeroPoint)
	}
}

func TestRefusals(t *testing.T) {
	l := library(t)
	if _, err := l.NewModel([]byte("nothing of the kind")); err == nil {
		t.Error("bytes were taken for a model")
	}
	for name, c := range map[string]struct {
		flags int
		want  string
	}{
		"person_detect.tflite":                       {-1, "quantized_dimension"},
		"mobilenet_v1_0.25_128_quant_edgetpu.tflite": {-1, "edgetpu-custom-op"},
		"mobilenet_v2_1.0_224_quant.tflite":          {3, "XNNPACK"},
	} {
		var o Options
		if c.flags >= 0 {
			d, err := l.NewXNNPack(1, uint32(c.flags))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			o.Delegate = d
		}
		if _, err := load(t, l, name).NewInterpreter(o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := l.NewExternal("/nonexistent/libedgetpu.so.1", nil); err == nil || !strings.Contains(err.Error(), "libedgetpu.so.1") {
		t.Errorf("a delegate that is not there: %v", err)
	}
	other := &Library{sym: l.sym, version: "2.99.0"}
	if _, err := other.NewXNNPack(1, 0); err == nil || !strings.Contains(err.Error(), "2.99.0") {
		t.Errorf("an unknown version: %v", err)
	}
}

func TestResize(t *testing.T) {
	l := library(t)
	in, err := load(t, l, "hello_world_float.tflite").NewInterpreter(Options{Resize: [][]int{{4, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := in.Invoke(); err != nil || len(in.Outputs[0].Data) != 16 {
		t.Errorf("%d bytes, %v", len(in.Outputs[0].Data), err)
	}
}

func BenchmarkInvoke(b *testing.B) {
	l := library(b)
	for _, name := range []string{"hello_world_float.tflite", "kws_ref_model.tflite", "vww_96_int8.tflite"} {
		b.Run(name, func(b *testing.B) {
			d, err := l.NewXNNPack(1, XNNPackQS8|XNNPackQU8)
			if err != nil {
				b.Fatal(err)
			}
			in, err := load(b, l, name).NewInterpreter(Options{Delegate: d})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := in.Invoke(); err != nil {
					b.Fatal(err)
				}
			}
			in.Close()
			d.Close()
		})
	}
}

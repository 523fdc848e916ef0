package train

import (
	"bytes"
	"image"
	_ "image/jpeg"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/image/draw"

	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/internal/testkit"
)

func sharedModel(t testing.TB, name string) *model.Model {
	t.Helper()
	data, err := os.ReadFile(testkit.Shared(t, "models/"+name))
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// cats are the first n pictures of each of two classes, stretched.
func cats(t testing.TB, n, size int) *Dataset {
	t.Helper()
	d := &Dataset{Name: "cats", Shape: Shape{size, size, 3}, Classes: []string{"cat", "other"}}
	for label, class := range d.Classes {
		files, err := filepath.Glob(filepath.Join(testkit.Shared(t, "data"), "cats", class, "*.jpg"))
		if err != nil || len(files) < n {
			t.Fatalf("%d pictures, %v", len(files), err)
		}
		for _, f := range files[:n] {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			img, _, err := image.Decode(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			rgba := image.NewRGBA(image.Rect(0, 0, size, size))
			draw.BiLinear.Scale(rgba, rgba.Bounds(), img, img.Bounds(), draw.Src, nil)
			for i := 0; i < len(rgba.Pix); i += 4 {
				d.Pixels = append(d.Pixels, rgba.Pix[i:i+3]...)
			}
			d.Labels = append(d.Labels, int32(label))
		}
	}
	return d
}

func open(t testing.TB, m *model.Model) *infer.Session {
	t.Helper()
	file, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	s, err := infer.OpenSession(file, "builtin", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// answer runs a picture through a model; bytes go in as they are where the
// model takes bytes.
func answer(t testing.TB, s *infer.Session, d *Dataset, i int) []float64 {
	t.Helper()
	size := product(d.Shape)
	if s.In[0].Type == infer.Uint8 {
		copy(s.In[0].Data, d.Pixels[i*size:(i+1)*size])
	} else {
		x := make([]float32, size)
		d.Input(x, i)
		copy(s.In[0].Data, floatBytes(x))
	}
	if err := s.Invoke(); err != nil {
		t.Fatal(err)
	}
	return s.Out[0].Floats(nil)
}

// A head trained on the features of a public model and written back answers in
// the runtime as the trained head on the extracted features, with 50 pictures a
// class.
func TestHead(t *testing.T) {
	for _, c := range []struct {
		model string
		size  int
		shape Shape
		least float64 // of pictures it has not seen
	}{
		{"mobilenet_v2_1.0_224_quant.tflite", 224, Shape{1280}, 0.9},
		{"mobilenet_v1_0.25_128_quant.tflite", 128, Shape{256}, 0.7},
		{"vww_96_float.tflite", 96, Shape{256}, 0.5},
	} {
		t.Run(c.model, func(t *testing.T) {
			base, err := Cut(sharedModel(t, c.model), "")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(base.Shape, c.shape) {
				t.Fatalf("features of %v", base.Shape)
			}
			pictures := cats(t, 75, c.size)
			s := open(t, base.Model)
			d, err := base.Extract(t.Context(), pictures, func(i int, f []float32) error {
				for j, v := range answer(t, s, pictures, i) {
					f[j] = float32(v)
				}
				return nil
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			learn, test, err := d.Split(1.0/3, false, 1)
			if err != nil {
				t.Fatal(err)
			}
			net, err := New(Spec{[]LayerSpec{{Type: "dense", Units: 32, Activation: "relu"}, {Type: "dense", Units: 1, Activation: "sigmoid"}}}, d.Shape, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			cfg := DefaultConfig()
			cfg.Epochs, cfg.Batch = 30, 16
			tr := run(t, &Trainer{Net: net, Config: cfg, Train: learn})
			if _, a := tr.evaluate(test); a < c.least {
				t.Errorf("accuracy %v", a)
			}
			head := net.TwoClasses()
			whole, err := base.Attach(head, "cat or not", d.Classes)
			if err != nil {
				t.Fatal(err)
			}
			file, err := whole.Write()
			if err != nil {
				t.Fatal(err)
			}
			back, err := model.Read(file)
			if err != nil {
				t.Fatal(err)
			}
			if l, err := back.Labels(); err != nil || !slices.Equal(l, d.Classes) || len(back.Packed()) != 1 {
				t.Errorf("labels %v, %v", l, err)
			}
			one := open(t, whole)
			width := product(c.shape)
			for i := range pictures.Len() {
				want := head.Predict(d.Values[i*width:(i+1)*width], 1)
				chance := net.Predict(d.Values[i*width:(i+1)*width], 1)[0]
				got := answer(t, one, pictures, i)
				if len(got) != 2 || math.Abs(got[0]-float64(want[0])) > 1e-5 || math.Abs(got[1]-float64(chance)) > 1e-5 {
					t.Fatalf("picture %d: the file says %v, the head %v, chance %v", i, got, want, chance)
				}
			}
		})
	}
}

func TestCutRefuses(t *testing.T) {
	for _, c := range []struct{ file, name, words string }{
		{"mobilenet_v1_0.25_128_quant.tflite", "no such tensor", `no operator computes a tensor "no such tensor"; near the end`},
		{"mobilenet_v1_0.25_128_quant.tflite", "input", "no operator computes"},
		{"face_detection_front.tflite", "", "name the tensor to cut at"},
	} {
		if _, err := Cut(sharedModel(t, c.file), c.name); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s at %q: %v", c.file, c.name, err)
		}
	}
	base, err := Cut(sharedModel(t, "mobilenet_v1_0.25_128_quant.tflite"), "MobilenetV1/Logits/AvgPool_1a/AvgPool")
	if err != nil || base.Shape[0] != 256 {
		t.Fatal(base, err)
	}
	// The first of the names that a converter joined is enough.
	if b, err := Cut(sharedModel(t, "mobilenet_v1_0.25_128_quant.tflite"), "MobilenetV1/MobilenetV1/Conv2d_11_pointwise/Relu6"); err != nil || !slices.Equal(b.Shape, Shape{8, 8, 128}) {
		t.Errorf("%v %v", b, err)
	}
	net, err := New(Spec{[]LayerSpec{{Type: "dense", Units: 2}}}, Shape{255}, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := base.Attach(net, "", nil); err == nil || !strings.Contains(err.Error(), "the head takes [255]") {
		t.Errorf("%v", err)
	}
}

package compress

import (
	"bytes"
	"image"
	_ "image/jpeg"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/draw"

	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/internal/testkit"
)

// samples are rows of real numbers.
type samples [][]float64

func (s samples) Len() int                            { return len(s) }
func (s samples) Fill(in []infer.Tensor, i int) error { return in[0].SetFloats(s[i]) }

func (s samples) every(n, first int) samples {
	var out samples
	for i := first; i < len(s); i += n {
		out = append(out, s[i])
	}
	return out
}

// pictures reads all below a folder of shared data, stretched to w x h x 3,
// each byte times scale.
func pictures(t testing.TB, dir string, w, h int, scale float64) (s samples, classes []string) {
	t.Helper()
	return somePictures(t, dir, 1, w, h, scale)
}

// somePictures reads every so manieth.
func somePictures(t testing.TB, dir string, every, w, h int, scale float64) (s samples, classes []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testkit.Shared(t, "data"), dir, "*", "*.jpg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v", err)
	}
	for i, f := range files {
		if i%every != 0 {
			continue
		}
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		img, _, err := image.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		rgba := image.NewRGBA(image.Rect(0, 0, w, h))
		draw.BiLinear.Scale(rgba, rgba.Bounds(), img, img.Bounds(), draw.Src, nil)
		row := make([]float64, 0, w*h*3)
		for i := 0; i < len(rgba.Pix); i += 4 {
			for c := range 3 {
				row = append(row, scale*float64(rgba.Pix[i+c]))
			}
		}
		s = append(s, row)
		classes = append(classes, filepath.Base(filepath.Dir(f)))
	}
	return s, classes
}

func sharedModel(t testing.TB, name string) (*model.Model, []byte) {
	t.Helper()
	data, err := os.ReadFile(testkit.Shared(t, "models/"+name))
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	return m, data
}

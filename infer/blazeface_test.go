package infer

import (
	"encoding/binary"
	"math"
	"testing"
)

func faceInput() Tensor {
	return Tensor{Type: Float32, Shape: []int{1, 128, 128, 3}}
}

// faceOutputs are boxes and logits without a face.
func faceOutputs() []Tensor {
	out := []Tensor{
		{Type: Float32, Shape: []int{1, faceAnchors, faceNumbers}, Data: make([]byte, 4*faceAnchors*faceNumbers)},
		{Type: Float32, Shape: []int{1, faceAnchors, 1}, Data: make([]byte, 4*faceAnchors)},
	}
	for i := range faceAnchors {
		put(out[1], i, -5)
	}
	// The logits come first in some files.
	return []Tensor{out[1], out[0]}
}

func put(t Tensor, i int, v float64) {
	binary.LittleEndian.PutUint32(t.Data[4*i:], math.Float32bits(float32(v)))
}

// putFace writes a face for one anchor: box in pixels relative to its centre,
// and the first point 2 pixels left and above of the centre of the box.
func putFace(out []Tensor, anchor int, logit, x, y, w, h float64) {
	put(out[0], anchor, logit)
	for k, v := range []float64{x, y, w, h, x - 2, y - 2} {
		put(out[1], anchor*faceNumbers+k, v)
	}
}

func TestBlazeFace(t *testing.T) {
	out := faceOutputs()
	// Cell 5 of row 3 of the fine map: centre (44, 28) in pixels of 128.
	fine := (3*16 + 5) * 2
	putFace(out, fine, 2, 4, 4, 32, 32)     // around (48, 32)
	putFace(out, fine+1, 0.5, 8, 4, 32, 32) // overlaps: around (52, 32)
	// Cell 7 of row 7 of the coarse map: centre (120, 120).
	coarse := 512 + (7*8+7)*6
	putFace(out, coarse, 1, 0, 0, 40, 40)    // beyond the edge
	putFace(out, coarse+3, -1, 0, 0, 10, 10) // below the threshold
	r, err := decodeOne(t, ModelConfig{}, nil, []Tensor{faceInput()}, out)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Objects) != 2 {
		t.Fatalf("found %+v", r.Objects)
	}
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	a, b := sigmoid(2), sigmoid(0.5)
	middle := (a*48 + b*52) / (a + b)
	near := func(name string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-6 {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	first, second := r.Objects[0], r.Objects[1]
	near("score", first.Score, a)
	for k, want := range []float64{middle - 16, 16, middle + 16, 48} {
		near("box", first.Box[k], want/128)
	}
	if first.Label != "face" || len(first.Points) != facePoints || r.Label != "face" {
		t.Errorf("object %+v", first)
	}
	near("first point", first.Points[0][0], (middle-2)/128)
	// Points that are not set stand at the anchor.
	near("second point", first.Points[1][0], 44./128)
	near("second score", second.Score, sigmoid(1))
	for k, want := range []float64{100, 100, 128, 128} {
		near("second box", second.Box[k], want/128)
	}
	near("best", r.Score, a)
}

func TestBlazeFaceThreshold(t *testing.T) {
	out := faceOutputs()
	putFace(out, 0, 1, 10, 10, 20, 20)
	for threshold, want := range map[float64]int{0: 1, 0.7: 1, 0.75: 0} {
		r, err := decodeOne(t, ModelConfig{Threshold: &threshold}, nil, []Tensor{faceInput()}, out)
		if err != nil || len(r.Objects) == 0 && want > 0 || threshold > 0 && len(r.Objects) != want {
			t.Errorf("threshold %v: %d objects, %v", threshold, len(r.Objects), err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	scores := Tensor{Type: Uint8, Shape: []int{1, 1001}, Scale: 1. / 256, Data: make([]byte, 1001)}
	for i := range scores.Data {
		scores.Data[i] = byte(i * 37)
	}
	faces := faceOutputs()
	for i := range 20 {
		putFace(faces, i*40, 1, 0, 0, 30, 30)
	}
	auto := Tensor{Type: Float32, Shape: []int{1, 640}, Data: make([]byte, 2560)}
	detect := []Tensor{
		{Type: Float32, Shape: []int{1, 10, 4}, Data: make([]byte, 160)},
		{Type: Float32, Shape: []int{1, 10}, Data: make([]byte, 40)},
		{Type: Float32, Shape: []int{1, 10}, Data: make([]byte, 40)},
		floats32([]int{1}, 10),
	}
	for i := range 10 {
		put(detect[0], 4*i+2, 1)
		put(detect[0], 4*i+3, 1)
		put(detect[2], i, 0.9)
	}
	for _, c := range []struct {
		name    string
		in, out []Tensor
	}{
		{"classes", nil, []Tensor{scores}},
		{"blazeface", []Tensor{faceInput()}, faces},
		{"reconstruction", []Tensor{auto}, []Tensor{auto}},
		{"raw", nil, []Tensor{auto}},
		{"detection", nil, detect},
	} {
		b.Run(c.name, func(b *testing.B) {
			d, err := newDecoder(ModelConfig{Output: c.name}, infos(c.in...), infos(c.out...), nil)
			if err != nil {
				b.Fatal(err)
			}
			var r Result
			b.ReportAllocs()
			for b.Loop() {
				r.Reset()
				if err := d.decode(c.in, c.out, &r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

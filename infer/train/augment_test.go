package train

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// A changed picture is the same for the same seed and number, mirrored where it
// is odd, and leaves the data as it was.
func TestVariant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, w, n := rapid.IntRange(1, 6).Draw(t, "h"), rapid.IntRange(1, 6).Draw(t, "w"), rapid.IntRange(1, 4).Draw(t, "n")
		d := &Dataset{Shape: Shape{h, w, 3}, Pixels: rapid.SliceOfN(rapid.Byte(), n*h*w*3, n*h*w*3).Draw(t, "pixels"), Classes: []string{"a", "b"}}
		for i := range n {
			d.Labels = append(d.Labels, int32(i%2))
		}
		before := bytes.Clone(d.Pixels)
		i, k := rapid.IntRange(0, n-1).Draw(t, "i"), rapid.IntRange(1, 8).Draw(t, "k")
		flipped, err := d.Variant(i, k, AugmentConfig{Flip: true}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if flipped.Len() != 1 || flipped.Labels[0] != d.Labels[i] {
			t.Fatalf("%d samples of %v", flipped.Len(), flipped.Labels)
		}
		at := func(p []byte, y, x int) []byte { return p[(y*w+x)*3 : (y*w+x)*3+3] }
		for y := range h {
			for x := range w {
				from := x
				if k%2 == 1 {
					from = w - 1 - x
				}
				if got, want := at(flipped.Pixels, y, x), at(d.Pixels[i*h*w*3:], y, from); !bytes.Equal(got, want) {
					t.Fatalf("variant %d at %d, %d: %v, want %v", k, y, x, got, want)
				}
			}
		}
		cfg := AugmentConfig{Shift: 1, Crop: 0.5, Brightness: 0.3, Noise: 0.1, Flip: true}
		a, errA := d.Variant(i, k, cfg, 7)
		b, errB := d.Variant(i, k, cfg, 7)
		if errA != nil || errB != nil || !bytes.Equal(a.Pixels, b.Pixels) || !bytes.Equal(d.Pixels, before) {
			t.Fatalf("%v %v, twice: %v and %v", errA, errB, a, b)
		}
	})
	if _, err := (&Dataset{Shape: Shape{2}, Values: []float32{1, 2}}).Variant(0, 1, AugmentConfig{Noise: 1}, 1); err == nil {
		t.Error("numbers are changed as pictures are")
	}
}

package cli

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"testing"

	"edgegateway/infer"
)

// Labels stand beside their frames, inside the picture and over no other, and
// what they say is written in black on the frame's colour.
func TestDrawLabels(t *testing.T) {
	blank := func(w, h int) *image.RGBA {
		img := image.NewRGBA(image.Rect(0, 0, w, h))
		draw.Draw(img, img.Bounds(), image.NewUniform(color.Gray{90}), image.Point{}, draw.Src)
		return img
	}
	box := func(label string, score float64, b ...float64) infer.Object {
		o := infer.Object{Label: label, Score: score}
		copy(o.Box[:], b)
		return o
	}
	drawn := func(w, h int, objects ...infer.Object) *image.RGBA {
		img := blank(w, h)
		if err := drawObjects(img, objects); err != nil {
			t.Fatal(err)
		}
		return img
	}
	// ink counts the black letters on the frame's colour in a part of a picture.
	ink := func(img *image.RGBA, r image.Rectangle) (letters, ground int) {
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				switch c := img.RGBAAt(x, y); {
				case c == frameInk:
					ground++
				case c.G < 90 && c.R == 0: // black, and what is smoothed into the ground
					letters++
				}
			}
		}
		return letters, ground
	}
	for _, size := range []image.Point{{96, 96}, {640, 480}, {1920, 1280}} {
		img := drawn(size.X, size.Y, box("face", 0.79, 0.3, 0.4, 0.7, 0.8))
		above := image.Rect(size.X*3/10, 0, size.X, size.Y*4/10)
		letters, ground := ink(img, above)
		if high := size.Y / 30; letters < 4*high || ground < letters {
			t.Errorf("%v: %d points of letters on %d above the frame", size, letters, ground)
		}
	}
	cat, dog := drawn(640, 480, box("cat", 0.5, 0.2, 0.2, 0.8, 0.8)), drawn(640, 480, box("dog", 0.5, 0.2, 0.2, 0.8, 0.8))
	more := drawn(640, 480, box("cat", 0.6, 0.2, 0.2, 0.8, 0.8))
	if bytes.Equal(cat.Pix, dog.Pix) || bytes.Equal(cat.Pix, more.Pix) {
		t.Error("a label or a score is not drawn")
	}

	picture, size := image.Rect(0, 0, 640, 480), image.Pt(80, 20)
	for _, c := range []struct {
		frame image.Rectangle
		taken []image.Rectangle
		want  image.Point
	}{
		{image.Rect(100, 100, 200, 200), nil, image.Pt(100, 80)},
		{image.Rect(100, 10, 200, 200), nil, image.Pt(100, 10)},  // no room above
		{image.Rect(600, 100, 640, 200), nil, image.Pt(560, 80)}, // nor to the right
		{image.Rect(-50, 100, 200, 200), nil, image.Pt(0, 80)},   // it leaves the picture
		{image.Rect(0, -100, 640, 600), nil, image.Pt(0, 0)},     // all around
		{image.Rect(10, 470, 600, 700), nil, image.Pt(10, 450)},  // at the foot
		{image.Rect(110, 105, 200, 200), []image.Rectangle{image.Rect(100, 80, 180, 100)}, image.Pt(110, 105)},
		{image.Rect(100, 100, 200, 200), []image.Rectangle{image.Rect(100, 80, 180, 100), image.Rect(100, 100, 180, 120)}, image.Pt(100, 200)},
	} {
		got := labelPlace(c.frame, size, picture, c.taken)
		if got.Min != c.want || !got.In(picture) {
			t.Errorf("%v beside %v: at %v, want %v", c.frame, c.taken, got, c.want)
		}
	}
	// Many on one spot, names in other letters, a name longer than the picture.
	var crowd []infer.Object
	for i := range 20 {
		crowd = append(crowd, box(fmt.Sprint("Größe ", i), 0.9, 0.5, 0.5, 0.51, 0.51))
	}
	drawn(640, 480, crowd...)
	drawn(20, 20, box("a name that is longer than the picture is wide", 1, 0, 0, 1, 1))
}

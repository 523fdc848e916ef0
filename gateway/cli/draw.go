package cli

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"strings"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"edgegateway/infer"
)

// frameInk is the colour of frames, and of the ground on which labels stand.
var frameInk = color.RGBA{0, 220, 80, 255}

// drawBoxes writes the picture with a frame around each object, and beside it
// its label and score.
func drawBoxes(from, to string, objects []infer.Object) error {
	img, err := openPicture(from)
	if err != nil {
		return err
	}
	b := img.Bounds()
	out := image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(out, out.Bounds(), img, b.Min, draw.Src)
	if err := drawObjects(out, objects); err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	if err := png.Encode(f, out); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// drawObjects draws all frames, then all labels: none is crossed by a frame.
// Letters are a thirtieth of the picture high, so that they can be read where
// all of it is seen at once.
func drawObjects(out *image.RGBA, objects []infer.Object) error {
	b := out.Bounds()
	parsed, err := opentype.Parse(gobold.TTF)
	if err != nil {
		return err
	}
	face, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: float64(min(max(min(b.Dx(), b.Dy())/30, 12), 96)), DPI: 72, Hinting: font.HintingFull})
	if err != nil {
		return err
	}
	defer face.Close()
	thick := max(2, b.Dx()/200)
	frames := make([]image.Rectangle, len(objects))
	for i, o := range objects {
		r := image.Rect(int(o.Box[0]*float64(b.Dx())), int(o.Box[1]*float64(b.Dy())), int(o.Box[2]*float64(b.Dx())), int(o.Box[3]*float64(b.Dy())))
		frames[i] = r
		for _, side := range []image.Rectangle{
			image.Rect(r.Min.X, r.Min.Y, r.Max.X, r.Min.Y+thick), image.Rect(r.Min.X, r.Max.Y-thick, r.Max.X, r.Max.Y),
			image.Rect(r.Min.X, r.Min.Y, r.Min.X+thick, r.Max.Y), image.Rect(r.Max.X-thick, r.Min.Y, r.Max.X, r.Max.Y),
		} {
			draw.Draw(out, side, image.NewUniform(frameInk), image.Point{}, draw.Src)
		}
	}
	var taken []image.Rectangle
	for i, o := range objects {
		text := strings.TrimSpace(fmt.Sprintf("%s %.2f", o.Label, o.Score))
		m := face.Metrics()
		size := image.Pt((font.MeasureString(face, text) + m.Height/2).Ceil(), (m.Ascent + m.Descent).Ceil())
		at := labelPlace(frames[i], size, b, taken)
		taken = append(taken, at)
		draw.Draw(out, at, image.NewUniform(frameInk), image.Point{}, draw.Src)
		d := font.Drawer{Dst: out, Src: image.Black, Face: face, Dot: fixed.Point26_6{
			X: fixed.I(at.Min.X) + m.Height/4, Y: fixed.I(at.Min.Y) + m.Ascent,
		}}
		d.DrawString(text)
	}
	return nil
}

// labelPlace is where a label of a size stands: above its frame, else inside
// it, below it, inside at its foot: where there is room in the picture and no
// other label yet; else above, pushed into the picture.
func labelPlace(frame image.Rectangle, size image.Point, picture image.Rectangle, taken []image.Rectangle) image.Rectangle {
	x := max(picture.Min.X, min(frame.Min.X, picture.Max.X-size.X))
	place := func(y int) image.Rectangle { return image.Rectangle{Max: size}.Add(image.Pt(x, y)) }
	for _, y := range []int{frame.Min.Y - size.Y, frame.Min.Y, frame.Max.Y, frame.Max.Y - size.Y} {
		at, free := place(y), true
		for _, t := range taken {
			free = free && !at.Overlaps(t)
		}
		if free && y >= picture.Min.Y && at.Max.Y <= picture.Max.Y {
			return at
		}
	}
	return place(max(picture.Min.Y, min(frame.Min.Y-size.Y, picture.Max.Y-size.Y)))
}

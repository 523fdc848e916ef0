package infer

import (
	"encoding/binary"
	"image"
	_ "image/jpeg"
	"math"
	"os"
	"testing"

	_ "golang.org/x/image/bmp"
	"golang.org/x/image/draw"
)

// readPicture decodes a JPEG or BMP file.
func readPicture(t testing.TB, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, _, err := image.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return p
}

// rgb is the picture as w x h x 3 bytes, stretched, or in letterbox whole
// inside, in the middle, with black around it.
func rgb(p image.Image, w, h int, letterbox bool) []byte {
	in := p.Bounds()
	to := image.Rect(0, 0, w, h)
	if letterbox {
		scale := min(float64(w)/float64(in.Dx()), float64(h)/float64(in.Dy()))
		tw, th := int(math.Round(float64(in.Dx())*scale)), int(math.Round(float64(in.Dy())*scale))
		to = image.Rect(0, 0, tw, th).Add(image.Pt((w-tw)/2, (h-th)/2))
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.ApproxBiLinear.Scale(out, to, p, in, draw.Src, nil)
	data := make([]byte, 0, w*h*3)
	for i := 0; i < len(out.Pix); i += 4 {
		data = append(data, out.Pix[i:i+3]...)
	}
	return data
}

// unit maps bytes to float32 from -1 to 1.
func unit(data []byte) []byte {
	out := make([]byte, 0, 4*len(data))
	for _, b := range data {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits((float32(b)-127.5)/127.5))
	}
	return out
}

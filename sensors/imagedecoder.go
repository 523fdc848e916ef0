package sensors

import (
	"bytes"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"image/png"

	"golang.org/x/image/bmp"
)

// ImageDecoder decodes pictures and writes them into models' inputs. It keeps
// its buffers and is for one goroutine.
type ImageDecoder struct {
	reader bytes.Reader
	turbo  *turbo // opened by the first picture that gains from it
	tried  bool
	rgb    []byte      // what turbo decodes into
	canvas *image.RGBA // rare kinds of pictures, turned into the common one
	tables tables
	xs, ys []tap
	row    []byte // one row of the input, a byte a channel
	shrinker
}

// NewImageDecoder makes one.
func NewImageDecoder() *ImageDecoder { return &ImageDecoder{} }

// maxScans bounds what a progressive JPEG may cost: each scan, however few
// bytes it has, goes over the whole picture. Real ones have about ten.
const maxScans = 100

// Into decodes the picture and writes it into dst, fitted as the checked cfg
// says. Its error is an *Error where the picture is to blame.
func (d *ImageDecoder) Into(picture []byte, cfg ImageConfig, dst Target) (Placement, error) {
	if err := dst.check(cfg); err != nil {
		return Placement{}, err
	}
	format, w, h, err := ImageInfo(picture)
	if err != nil {
		return Placement{}, err
	}
	if w*h > cfg.MaxPixels {
		return Placement{}, &Error{pictureTooLarge, fmt.Sprintf("the picture claims %d x %d, over the limit of %d pixels", w, h, cfg.MaxPixels)}
	}
	if n := bytes.Count(picture, []byte{0xff, 0xda}); format == "jpeg" && n > maxScans {
		return Placement{}, &Error{badPicture, fmt.Sprintf("the jpeg has %d scans", n)}
	}
	// A bitmap is as long as it is large, and at least a bit a pixel.
	if format == "bmp" && len(picture) < w*h/8 {
		return Placement{}, &Error{badPicture, fmt.Sprintf("the bmp of %d x %d has %d bytes only", w, h, len(picture))}
	}
	p := place(w, h, cfg.Fit, dst)
	n := reduction(w, h, cfg, dst, p)
	src, ok := d.reduced(picture, format, w, h, n, cfg, dst)
	if !ok {
		if src, err = d.whole(picture, format); err != nil {
			return Placement{}, err
		}
		if n > 1 {
			src = d.shrink(src, n, dst.C == 1)
		}
	}
	d.tables.prepare(cfg, dst)
	d.resize(src, cfg, dst, p)
	return p, nil
}

// reduced lets libturbojpeg decode a JPEG at a half, a quarter or an eighth of
// its size. Whatever is wrong, the other decoder has the say.
func (d *ImageDecoder) reduced(picture []byte, format string, w, h, n int, cfg ImageConfig, dst Target) (raster, bool) {
	if format != "jpeg" || n == 1 || cfg.JPEG != "auto" {
		return raster{}, false
	}
	if !d.tried {
		d.tried = true
		d.turbo, _ = openTurbo() // TurboJPEG tells who wants to know
	}
	if d.turbo == nil {
		return raster{}, false
	}
	sw, sh := (w+n-1)/n, (h+n-1)/n
	if size := sw * sh * dst.C; cap(d.rgb) < size {
		d.rgb = make([]byte, size)
	}
	src := raster{
		w: sw, h: sh, fullW: float64(w) / float64(n), fullH: float64(h) / float64(n),
		pix: d.rgb[:sw*sh*dst.C], stride: sw * dst.C, step: dst.C,
	}
	if err := d.turbo.decode(picture, w, h, src); err != nil {
		return raster{}, false
	}
	return src, true
}

// whole decodes a picture at its own size.
func (d *ImageDecoder) whole(picture []byte, format string) (raster, error) {
	d.reader.Reset(picture)
	var img image.Image
	var err error
	switch format {
	case "jpeg":
		img, err = jpeg.Decode(&d.reader)
	case "png":
		img, err = png.Decode(&d.reader)
	default:
		img, err = bmp.Decode(&d.reader)
	}
	d.reader.Reset(nil)
	if err != nil {
		return raster{}, &Error{badPicture, fmt.Sprintf("the %s cannot be decoded: %v", format, err)}
	}
	b := img.Bounds()
	src := raster{w: b.Dx(), h: b.Dy(), fullW: float64(b.Dx()), fullH: float64(b.Dy())}
	switch m := img.(type) {
	case *image.YCbCr:
		src.ycc = m
	case *image.Gray:
		src.pix, src.stride, src.step = m.Pix, m.Stride, 1
	case *image.RGBA:
		src.pix, src.stride, src.step = m.Pix, m.Stride, 4
	case *image.NRGBA: // alpha is left aside, as by OpenCV and Pillow
		src.pix, src.stride, src.step = m.Pix, m.Stride, 4
	default:
		if d.canvas == nil || d.canvas.Rect != b {
			d.canvas = image.NewRGBA(b)
		}
		draw.Draw(d.canvas, b, img, b.Min, draw.Src)
		src.pix, src.stride, src.step = d.canvas.Pix, d.canvas.Stride, 4
	}
	return src, nil
}

package sensors

import (
	"image"
	"image/color"
	"math"
)

// raster is a decoded picture in memory: packed pixels, or the planes of a
// JPEG, of which only the pixels that the input needs are turned into RGB.
type raster struct {
	w, h int
	// fullW and fullH are the size of the picture in these pixels; a picture
	// decoded at a reduced scale ends within its last one.
	fullW, fullH float64

	pix          []byte
	stride, step int          // step 1 is grey, 3 and 4 begin with red
	ycc          *image.YCbCr // instead of pix
}

// tap is the two source columns (or rows) that make one of the input's, and
// the weight of the second in 256ths; a < 0 lies outside the picture.
type tap struct {
	a, b   int
	weight int32
}

// fillTaps computes the taps of one axis of n pixels, of which the picture
// takes extent from at on, both in fractions. Pixel centres are aligned, as by
// OpenCV and TFLite's half_pixel_centers.
func fillTaps(taps []tap, n int, at, extent float64, size int, full float64, nearest bool) []tap {
	taps = taps[:0]
	for i := range n {
		f := ((float64(i)+0.5)/float64(n) - at) / extent
		if f < 0 || f >= 1 {
			taps = append(taps, tap{a: -1})
			continue
		}
		s := f * full
		if nearest {
			k := min(int(s), size-1)
			taps = append(taps, tap{a: k, b: k})
			continue
		}
		s -= 0.5
		low := math.Floor(s)
		t := tap{a: int(low), b: int(low) + 1, weight: int32((s - low) * 256)}
		t.a = min(max(t.a, 0), size-1)
		t.b = min(t.b, size-1)
		taps = append(taps, t)
	}
	return taps
}

// resize writes the picture into the input row by row; what it does not cover
// is black.
func (d *ImageDecoder) resize(src raster, cfg ImageConfig, dst Target, p Placement) {
	nearest := cfg.Filter == "nearest"
	d.xs = fillTaps(d.xs, dst.W, p.x0, p.w, src.w, src.fullW, nearest)
	d.ys = fillTaps(d.ys, dst.H, p.y0, p.h, src.h, src.fullH, nearest)
	n := dst.W * dst.C
	if cap(d.row) < n {
		d.row = make([]byte, n)
	}
	row := d.row[:n]
	size := len(dst.Data) / dst.H
	// The columns inside the picture are one run.
	from, to := 0, len(d.xs)
	for from < to && d.xs[from].a < 0 {
		from++
	}
	for to > from && d.xs[to-1].a < 0 {
		to--
	}
	for i, y := range d.ys {
		if y.a < 0 || i == 0 {
			clear(row)
		}
		if y.a >= 0 {
			inside := row[from*dst.C : to*dst.C]
			switch {
			case src.ycc != nil && dst.C == 1:
				// The luma of a JPEG is that of ITU-R BT.601 already.
				greyRow(inside, d.xs[from:to], y, src.ycc.Y, src.ycc.YStride, 1)
			case src.ycc != nil:
				yccRow(inside, d.xs[from:to], y, src.ycc)
			case dst.C == 1:
				greyRow(inside, d.xs[from:to], y, src.pix, src.stride, src.step)
			default:
				rgbRow(inside, d.xs[from:to], y, src.pix, src.stride, src.step)
			}
			if dst.C == 3 && cfg.Channels == "bgr" {
				for k := 0; k+2 < len(inside); k += 3 {
					inside[k], inside[k+2] = inside[k+2], inside[k]
				}
			}
		}
		d.tables.write(dst.Data[i*size:(i+1)*size], row, dst)
	}
}

// mix blends four neighbours by the weights of the right and the lower ones.
func mix(a, b, c, d uint8, x, y int32) int32 {
	top := int32(a)*(256-x) + int32(b)*x
	low := int32(c)*(256-x) + int32(d)*x
	return (top*(256-y) + low*y + 1<<15) >> 16
}

// yccRow blends luma and chroma and turns only the outcome into RGB.
func yccRow(out []byte, xs []tap, y tap, m *image.YCbCr) {
	sx, sy := chromaShift(m.SubsampleRatio)
	y0, y1 := m.Y[y.a*m.YStride:], m.Y[y.b*m.YStride:]
	ca, cb := (y.a>>sy)*m.CStride, (y.b>>sy)*m.CStride
	b0, b1, r0, r1 := m.Cb[ca:], m.Cb[cb:], m.Cr[ca:], m.Cr[cb:]
	for i, x := range xs {
		a, b := x.a>>sx, x.b>>sx
		luma := mix(y0[x.a], y0[x.b], y1[x.a], y1[x.b], x.weight, y.weight)
		blue := mix(b0[a], b0[b], b1[a], b1[b], x.weight, y.weight)
		red := mix(r0[a], r0[b], r1[a], r1[b], x.weight, y.weight)
		o := out[3*i : 3*i+3 : 3*i+3]
		o[0], o[1], o[2] = color.YCbCrToRGB(uint8(luma), uint8(blue), uint8(red))
	}
}

func chromaShift(r image.YCbCrSubsampleRatio) (x, y int) {
	switch r {
	case image.YCbCrSubsampleRatio422:
		return 1, 0
	case image.YCbCrSubsampleRatio420:
		return 1, 1
	case image.YCbCrSubsampleRatio440:
		return 0, 1
	case image.YCbCrSubsampleRatio411:
		return 2, 0
	case image.YCbCrSubsampleRatio410:
		return 2, 1
	}
	return 0, 0
}

func rgbRow(out []byte, xs []tap, y tap, pix []byte, stride, step int) {
	p0, p1 := pix[y.a*stride:], pix[y.b*stride:]
	for i, x := range xs {
		o := out[3*i : 3*i+3 : 3*i+3]
		a, b := x.a*step, x.b*step
		o[0] = uint8(mix(p0[a], p0[b], p1[a], p1[b], x.weight, y.weight))
		if step == 1 {
			o[1], o[2] = o[0], o[0]
			continue
		}
		o[1] = uint8(mix(p0[a+1], p0[b+1], p1[a+1], p1[b+1], x.weight, y.weight))
		o[2] = uint8(mix(p0[a+2], p0[b+2], p1[a+2], p1[b+2], x.weight, y.weight))
	}
}

func greyRow(out []byte, xs []tap, y tap, pix []byte, stride, step int) {
	p0, p1 := pix[y.a*stride:], pix[y.b*stride:]
	for i, x := range xs {
		a, b := x.a*step, x.b*step
		v := mix(p0[a], p0[b], p1[a], p1[b], x.weight, y.weight)
		if step > 1 {
			g := mix(p0[a+1], p0[b+1], p1[a+1], p1[b+1], x.weight, y.weight)
			b := mix(p0[a+2], p0[b+2], p1[a+2], p1[b+2], x.weight, y.weight)
			v = (299*v + 587*g + 114*b + 500) / 1000 // ITU-R BT.601
		}
		out[i] = uint8(v)
	}
}

package sensors

import "image"

// reduction is by how much a picture of w x h can be made smaller in whole
// steps and still hold every pixel that the input needs: 1, 2, 4 or 8. Four
// neighbours alone, taken from a picture much larger than the input, would
// skip most of it and turn fine structure into noise.
func reduction(w, h int, cfg ImageConfig, dst Target, p Placement) int {
	if cfg.Filter != "bilinear" {
		return 1
	}
	n := 8
	for n > 1 && (float64(w/n) < p.w*float64(dst.W) || float64(h/n) < p.h*float64(dst.H)) {
		n /= 2
	}
	return n
}

// shrinker averages blocks of pixels, which is what a JPEG decoder at reduced
// scale comes to: on photographs the two differ by 0.6 of 255 on average, so
// answers do not depend on which of them is there. It keeps its buffers.
type shrinker struct {
	planes [3][]byte
	sums   []uint32
	small  image.YCbCr
}

// shrink makes src n times smaller. Grey alone is made where the input has
// one channel.
func (s *shrinker) shrink(src raster, n int, grey bool) raster {
	out := src
	out.w, out.h = (src.w+n-1)/n, (src.h+n-1)/n
	out.fullW, out.fullH = src.fullW/float64(n), src.fullH/float64(n)
	if src.ycc == nil {
		out.stride = out.w * src.step
		out.pix = s.plane(0, src.pix, src.w, src.h, src.stride, src.step, n, n)
		return out
	}
	m := src.ycc
	sx, sy := chromaShift(m.SubsampleRatio)
	fx, fy := n>>sx, n>>sy
	if fx == 0 || fy == 0 { // 4:1:1 by two: its chroma is coarser than that
		return src
	}
	s.small = image.YCbCr{SubsampleRatio: image.YCbCrSubsampleRatio444, Rect: image.Rect(0, 0, out.w, out.h), YStride: out.w, CStride: out.w}
	s.small.Y = s.plane(0, m.Y, src.w, src.h, m.YStride, 1, n, n)
	if !grey {
		cw, ch := (src.w+1<<sx-1)>>sx, (src.h+1<<sy-1)>>sy
		s.small.Cb = s.plane(1, m.Cb, cw, ch, m.CStride, 1, fx, fy)
		s.small.Cr = s.plane(2, m.Cr, cw, ch, m.CStride, 1, fx, fy)
	}
	out.ycc = &s.small
	return out
}

// plane averages blocks of fx x fy pixels of step bytes.
func (s *shrinker) plane(which int, src []byte, w, h, stride, step, fx, fy int) []byte {
	dw, dh := (w+fx-1)/fx, (h+fy-1)/fy
	row := dw * step
	if cap(s.planes[which]) < row*dh {
		s.planes[which] = make([]byte, row*dh)
	}
	if cap(s.sums) < row {
		s.sums = make([]uint32, row)
	}
	dst, sums := s.planes[which][:row*dh], s.sums[:row]
	whole := w / fx // blocks that are not cut by the right edge
	for y := range dh {
		clear(sums)
		rows := min(fy, h-y*fy)
		for r := range rows {
			line := src[(y*fy+r)*stride:][:w*step]
			addBlocks(sums[:whole*step], line[:whole*fx*step], fx, step)
			for x := whole * fx; x < w; x++ {
				for c := range step {
					sums[whole*step+c] += uint32(line[x*step+c])
				}
			}
		}
		out := dst[y*row : (y+1)*row]
		average(out[:whole*step], sums, uint32(rows*fx))
		if whole < dw {
			average(out[whole*step:], sums[whole*step:], uint32(rows*(w-whole*fx)))
		}
	}
	return dst
}

// addBlocks adds up every fx pixels of a line of whole blocks.
func addBlocks(sums []uint32, line []byte, fx, step int) {
	switch {
	case step == 1 && fx == 8:
		for i := range sums {
			b := line[8*i : 8*i+8 : 8*i+8]
			sums[i] += uint32(b[0]) + uint32(b[1]) + uint32(b[2]) + uint32(b[3]) + uint32(b[4]) + uint32(b[5]) + uint32(b[6]) + uint32(b[7])
		}
	case step == 1 && fx == 4:
		for i := range sums {
			b := line[4*i : 4*i+4 : 4*i+4]
			sums[i] += uint32(b[0]) + uint32(b[1]) + uint32(b[2]) + uint32(b[3])
		}
	case step == 1 && fx == 2:
		for i := range sums {
			b := line[2*i : 2*i+2 : 2*i+2]
			sums[i] += uint32(b[0]) + uint32(b[1])
		}
	default:
		for i := 0; i < len(sums); i += step {
			for range fx {
				for c := range step {
					sums[i+c] += uint32(line[c])
				}
				line = line[step:]
			}
		}
	}
}

func average(out []byte, sums []uint32, n uint32) {
	// Blocks hold at most 64 pixels: 2^22 / n is exact enough for bytes.
	scale, half := (1<<22+n-1)/n, n/2
	for i := range out {
		out[i] = byte((sums[i] + half) * scale >> 22)
	}
}

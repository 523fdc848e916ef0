//go:build goexperiment.simd

package train

import (
	"simd/archsimd"
	"sync"
)

// fastest chooses the kernel by what the processor has.
func fastest() *kernel {
	switch {
	case archsimd.X86.AVX512():
		return &kernel{name: "avx512", multiply: multiply512, fma: fma512, adam: adam512}
	case archsimd.X86.AVX2() && archsimd.X86.FMA():
		return &kernel{name: "avx2", multiply: multiply256, fma: fma256, adam: adam256}
	}
	return nil
}

// Tiles: a block of tileK of the inner dimension is packed, a in panels of
// tall rows, b in panels of wide columns, so that the inner loop reads both in
// order. The result's tile stays in registers.
const (
	tileK        = 256
	tall         = 4
	wide512      = 32
	wide256      = 16
	tileM, tileN = 128, 512
)

// packed are the blocks in use, and packs those that are not.
type packed struct{ a, b []float32 }

var packs = sync.Pool{New: func() any { return new(packed) }}

func pack(dst []float32, v view, from, n, k0, k, panel int, rows bool) []float32 {
	need := (n + panel - 1) / panel * panel * k
	if cap(dst) < need {
		dst = make([]float32, need)
	}
	dst = dst[:need]
	at := 0
	for p := 0; p < n; p += panel {
		w := min(panel, n-p)
		for l := range k {
			for j := range w {
				if rows {
					dst[at+j] = v.data[(from+p+j)*v.row+(k0+l)*v.col]
				} else {
					dst[at+j] = v.data[(k0+l)*v.row+(from+p+j)*v.col]
				}
			}
			for j := w; j < panel; j++ {
				dst[at+j] = 0
			}
			at += panel
		}
	}
	return dst
}

// packB is pack for columns, with the two layouts that occur copied quickly.
func packB(dst []float32, v view, from, n, k0, k, panel int) []float32 {
	if v.col != 1 {
		return packTransposed(dst, v, from, n, k0, k, panel)
	}
	need := (n + panel - 1) / panel * panel * k
	if cap(dst) < need {
		dst = make([]float32, need)
	}
	dst = dst[:need]
	at := 0
	for p := 0; p < n; p += panel {
		w := min(panel, n-p)
		for l := range k {
			row := v.data[(k0+l)*v.row+from+p:]
			copy(dst[at:at+w], row[:w])
			clear(dst[at+w : at+panel])
			at += panel
		}
	}
	return dst
}

// packTransposed packs columns that are rows of the stored matrix.
func packTransposed(dst []float32, v view, from, n, k0, k, panel int) []float32 {
	need := (n + panel - 1) / panel * panel * k
	if cap(dst) < need {
		dst = make([]float32, need)
	}
	dst = dst[:need]
	for p := 0; p < n; p += panel {
		w := min(panel, n-p)
		block := dst[p*k : (p+panel)*k]
		for j := range w {
			col := v.data[(from+p+j)*v.col+k0:]
			col = col[:k]
			for l, x := range col {
				block[l*panel+j] = x
			}
		}
		for j := w; j < panel; j++ {
			for l := range k {
				block[l*panel+j] = 0
			}
		}
	}
	return dst
}

// packA packs panels of rows.
func packA(dst []float32, v view, from, n, k0, k int) []float32 {
	if v.col == 1 && v.row != 1 {
		return packTransposed(dst, view{v.data, v.col, v.row}, from, n, k0, k, tall)
	}
	return pack(dst, v, from, n, k0, k, tall, true)
}

func multiply512(c []float32, a, b view, m, n, k int, add bool) {
	blocks(c, a, b, m, n, k, add, wide512, func(c, pa, pb []float32, n, rows, cols, k int, add bool) {
		if rows == tall && cols == wide512 {
			tile512(c, n, pa, pb, k, add)
			return
		}
		var edge [tall * wide512]float32
		tile512(edge[:], wide512, pa, pb, k, false)
		merge(c, n, edge[:], wide512, rows, cols, add)
	})
}

func multiply256(c []float32, a, b view, m, n, k int, add bool) {
	blocks(c, a, b, m, n, k, add, wide256, func(c, pa, pb []float32, n, rows, cols, k int, add bool) {
		if rows == tall && cols == wide256 {
			tile256(c, n, pa, pb, k, add)
			return
		}
		var edge [tall * wide256]float32
		tile256(edge[:], wide256, pa, pb, k, false)
		merge(c, n, edge[:], wide256, rows, cols, add)
	})
}

// blocks walks the tiles.
func blocks(c []float32, a, b view, m, n, k int, add bool, wide int, tile func(c, pa, pb []float32, n, rows, cols, k int, add bool)) {
	s := packs.Get().(*packed)
	defer packs.Put(s)
	// Code for older processors, such as math.Exp, runs at a fraction of its
	// speed while the upper halves of the registers hold something.
	defer archsimd.ClearAVXUpperBits()
	for k0 := 0; k0 < k; k0 += tileK {
		kb := min(tileK, k-k0)
		more := add || k0 > 0
		for n0 := 0; n0 < n; n0 += tileN {
			nb := min(tileN, n-n0)
			s.b = packB(s.b, b, n0, nb, k0, kb, wide)
			for m0 := 0; m0 < m; m0 += tileM {
				mb := min(tileM, m-m0)
				s.a = packA(s.a, a, m0, mb, k0, kb)
				for j := 0; j < nb; j += wide {
					for i := 0; i < mb; i += tall {
						tile(c[(m0+i)*n+n0+j:], s.a[i*kb:], s.b[j*kb:], n, min(tall, mb-i), min(wide, nb-j), kb, more)
					}
				}
			}
		}
	}
}

// merge copies the part of a tile that lies inside the result.
func merge(c []float32, n int, tile []float32, wide, rows, cols int, add bool) {
	for i := range rows {
		row, t := c[i*n:i*n+cols], tile[i*wide:]
		for j := range row {
			if add {
				row[j] += t[j]
			} else {
				row[j] = t[j]
			}
		}
	}
}

// tile512 is a tile of 4 x 32.
func tile512(c []float32, n int, pa, pb []float32, k int, add bool) {
	var c00, c01, c10, c11, c20, c21, c30, c31 archsimd.Float32x16
	pa, pb = pa[:tall*k], pb[:wide512*k]
	for len(pa) >= tall && len(pb) >= wide512 {
		b0 := archsimd.LoadFloat32x16((*[16]float32)(pb))
		b1 := archsimd.LoadFloat32x16((*[16]float32)(pb[16:]))
		a := archsimd.BroadcastFloat32x16(pa[0])
		c00, c01 = a.MulAdd(b0, c00), a.MulAdd(b1, c01)
		a = archsimd.BroadcastFloat32x16(pa[1])
		c10, c11 = a.MulAdd(b0, c10), a.MulAdd(b1, c11)
		a = archsimd.BroadcastFloat32x16(pa[2])
		c20, c21 = a.MulAdd(b0, c20), a.MulAdd(b1, c21)
		a = archsimd.BroadcastFloat32x16(pa[3])
		c30, c31 = a.MulAdd(b0, c30), a.MulAdd(b1, c31)
		pa, pb = pa[tall:], pb[wide512:]
	}
	store512(c, c00, c01, add)
	store512(c[n:], c10, c11, add)
	store512(c[2*n:], c20, c21, add)
	store512(c[3*n:], c30, c31, add)
}

func store512(c []float32, x, y archsimd.Float32x16, add bool) {
	p, q := (*[16]float32)(c), (*[16]float32)(c[16:])
	if add {
		x, y = x.Add(archsimd.LoadFloat32x16(p)), y.Add(archsimd.LoadFloat32x16(q))
	}
	x.Store(p)
	y.Store(q)
}

// tile256 is a tile of 4 x 16.
func tile256(c []float32, n int, pa, pb []float32, k int, add bool) {
	var c00, c01, c10, c11, c20, c21, c30, c31 archsimd.Float32x8
	pa, pb = pa[:tall*k], pb[:wide256*k]
	for len(pa) >= tall && len(pb) >= wide256 {
		b0 := archsimd.LoadFloat32x8((*[8]float32)(pb))
		b1 := archsimd.LoadFloat32x8((*[8]float32)(pb[8:]))
		a := archsimd.BroadcastFloat32x8(pa[0])
		c00, c01 = a.MulAdd(b0, c00), a.MulAdd(b1, c01)
		a = archsimd.BroadcastFloat32x8(pa[1])
		c10, c11 = a.MulAdd(b0, c10), a.MulAdd(b1, c11)
		a = archsimd.BroadcastFloat32x8(pa[2])
		c20, c21 = a.MulAdd(b0, c20), a.MulAdd(b1, c21)
		a = archsimd.BroadcastFloat32x8(pa[3])
		c30, c31 = a.MulAdd(b0, c30), a.MulAdd(b1, c31)
		pa, pb = pa[tall:], pb[wide256:]
	}
	store256(c, c00, c01, add)
	store256(c[n:], c10, c11, add)
	store256(c[2*n:], c20, c21, add)
	store256(c[3*n:], c30, c31, add)
}

func store256(c []float32, x, y archsimd.Float32x8, add bool) {
	p, q := (*[8]float32)(c), (*[8]float32)(c[8:])
	if add {
		x, y = x.Add(archsimd.LoadFloat32x8(p)), y.Add(archsimd.LoadFloat32x8(q))
	}
	x.Store(p)
	y.Store(q)
}

func fma512(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for len(dst) >= 16 {
		d := (*[16]float32)(dst)
		x, y := archsimd.LoadFloat32x16((*[16]float32)(a)), archsimd.LoadFloat32x16((*[16]float32)(b))
		x.MulAdd(y, archsimd.LoadFloat32x16(d)).Store(d)
		dst, a, b = dst[16:], a[16:], b[16:]
	}
	archsimd.ClearAVXUpperBits()
	for i := range dst {
		dst[i] += a[i] * b[i]
	}
}

func fma256(dst, a, b []float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for len(dst) >= 8 {
		d := (*[8]float32)(dst)
		x, y := archsimd.LoadFloat32x8((*[8]float32)(a)), archsimd.LoadFloat32x8((*[8]float32)(b))
		x.MulAdd(y, archsimd.LoadFloat32x8(d)).Store(d)
		dst, a, b = dst[8:], a[8:], b[8:]
	}
	archsimd.ClearAVXUpperBits()
	for i := range dst {
		dst[i] += a[i] * b[i]
	}
}

func adam512(w, g, m, v []float32, s adamStep) {
	b1, c1 := archsimd.BroadcastFloat32x16(s.beta1), archsimd.BroadcastFloat32x16(1-s.beta1)
	b2, c2 := archsimd.BroadcastFloat32x16(s.beta2), archsimd.BroadcastFloat32x16(1-s.beta2)
	rate, eps, keep := archsimd.BroadcastFloat32x16(s.rate), archsimd.BroadcastFloat32x16(s.epsilon), archsimd.BroadcastFloat32x16(1-s.decay)
	least, zero := archsimd.BroadcastFloat32x16(leastMoment), archsimd.BroadcastFloat32x16(0)
	for len(w) >= 16 {
		pw, pm, pv := (*[16]float32)(w), (*[16]float32)(m), (*[16]float32)(v)
		x := archsimd.LoadFloat32x16((*[16]float32)(g))
		mm := archsimd.LoadFloat32x16(pm).Mul(b1).Add(x.Mul(c1))
		vv := archsimd.LoadFloat32x16(pv).Mul(b2).Add(x.Mul(x).Mul(c2))
		mm = mm.Masked(mm.Max(zero.Sub(mm)).Greater(least))
		vv = vv.Masked(vv.Greater(least))
		mm.Store(pm)
		vv.Store(pv)
		archsimd.LoadFloat32x16(pw).Mul(keep).Sub(mm.Mul(rate).Div(vv.Sqrt().Add(eps))).Store(pw)
		w, g, m, v = w[16:], g[16:], m[16:], v[16:]
	}
	archsimd.ClearAVXUpperBits()
	adamPlain(w, g, m, v, s)
}

func adam256(w, g, m, v []float32, s adamStep) {
	b1, c1 := archsimd.BroadcastFloat32x8(s.beta1), archsimd.BroadcastFloat32x8(1-s.beta1)
	b2, c2 := archsimd.BroadcastFloat32x8(s.beta2), archsimd.BroadcastFloat32x8(1-s.beta2)
	rate, eps, keep := archsimd.BroadcastFloat32x8(s.rate), archsimd.BroadcastFloat32x8(s.epsilon), archsimd.BroadcastFloat32x8(1-s.decay)
	least, zero := archsimd.BroadcastFloat32x8(leastMoment), archsimd.BroadcastFloat32x8(0)
	for len(w) >= 8 {
		pw, pm, pv := (*[8]float32)(w), (*[8]float32)(m), (*[8]float32)(v)
		x := archsimd.LoadFloat32x8((*[8]float32)(g))
		mm := archsimd.LoadFloat32x8(pm).Mul(b1).Add(x.Mul(c1))
		vv := archsimd.LoadFloat32x8(pv).Mul(b2).Add(x.Mul(x).Mul(c2))
		mm = mm.Masked(mm.Max(zero.Sub(mm)).Greater(least))
		vv = vv.Masked(vv.Greater(least))
		mm.Store(pm)
		vv.Store(pv)
		archsimd.LoadFloat32x8(pw).Mul(keep).Sub(mm.Mul(rate).Div(vv.Sqrt().Add(eps))).Store(pw)
		w, g, m, v = w[8:], g[8:], m[8:], v[8:]
	}
	archsimd.ClearAVXUpperBits()
	adamPlain(w, g, m, v, s)
}

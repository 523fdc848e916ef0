package train

import (
	"math"
	"os"
	"slices"
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// The seam behind which matrices are multiplied. All are row-major and dense;
// with add the product is added to c, else it replaces it. A faster kernel
// takes over where the program was built with one and the processor has what
// it needs; both compute the same sums, in another order.

// mulNT is c[m,n] = a[m,k] * b[n,k]ᵀ: a layer's forward pass.
func mulNT(c, a, b []float32, m, n, k int, add bool) {
	if fast != nil {
		fast.multiply(c, view{a, k, 1}, view{b, 1, k}, m, n, k, add)
		return
	}
	if sparse(a) {
		t := scratch.Get().(*[2][]float32)
		defer scratch.Put(t)
		t[0] = transpose(t[0], b, n, k)
		gemm(blas.NoTrans, blas.NoTrans, a, m, k, t[0], k, n, c, n, add)
		return
	}
	gemm(blas.NoTrans, blas.Trans, a, m, k, b, n, k, c, n, add)
}

// mulNN is c[m,n] = a[m,k] * b[k,n]: the gradient of a layer's input.
func mulNN(c, a, b []float32, m, n, k int, add bool) {
	if fast != nil {
		fast.multiply(c, view{a, k, 1}, view{b, n, 1}, m, n, k, add)
		return
	}
	if k < dotPays {
		gemm(blas.NoTrans, blas.NoTrans, a, m, k, b, k, n, c, n, add)
		return
	}
	t := scratch.Get().(*[2][]float32)
	defer scratch.Put(t)
	t[0] = transpose(t[0], b, k, n)
	gemm(blas.NoTrans, blas.Trans, a, m, k, t[0], n, k, c, n, add)
}

// mulTN is c[m,n] = a[k,m]ᵀ * b[k,n]: the gradient of a layer's weights.
func mulTN(c, a, b []float32, m, n, k int, add bool) {
	if fast != nil {
		fast.multiply(c, view{a, 1, m}, view{b, n, 1}, m, n, k, add)
		return
	}
	if k < dotPays {
		gemm(blas.Trans, blas.NoTrans, a, k, m, b, k, n, c, n, add)
		return
	}
	t := scratch.Get().(*[2][]float32)
	defer scratch.Put(t)
	if !add && sparse(b) { // cᵀ = bᵀ * a
		t[0] = slices.Grow(t[0][:0], n*m)[:n*m]
		gemm(blas.Trans, blas.NoTrans, b, k, n, a, k, m, t[0], m, false)
		turn(c, t[0], n, m)
		return
	}
	t[0], t[1] = transpose(t[0], a, k, m), transpose(t[1], b, k, n)
	gemm(blas.NoTrans, blas.Trans, t[0], m, k, t[1], n, k, c, n, add)
}

// gonum's product of rows with rows runs at twice the speed of its others
// where rows are long enough: from this inner dimension on it pays to
// transpose first.
const dotPays = 32

// sparse reports whether most of a is 0: gonum's other products skip what is,
// which pays from there on. Pictures of digits are, and what ReLU lets through.
func sparse(a []float32) bool {
	zeros := uint64(0)
	for _, x := range a { // without a branch, which nobody foretells
		zeros += (uint64(math.Float32bits(x)<<1) - 1) >> 63
	}
	return zeros > uint64(len(a)*2/3)
}

// scratch holds transposed matrices.
var scratch = sync.Pool{New: func() any { return new([2][]float32) }}

// transpose gives the rows x cols matrix a as cols x rows, in dst where it is
// large enough.
func transpose(dst, a []float32, rows, cols int) []float32 {
	if cap(dst) < rows*cols {
		dst = make([]float32, rows*cols)
	}
	dst = dst[:rows*cols]
	turn(dst, a, rows, cols)
	return dst
}

// turn writes the rows x cols matrix a as cols x rows.
func turn(dst, a []float32, rows, cols int) {
	const block = 16 // a cache line of each row at a time
	for i0 := 0; i0 < rows; i0 += block {
		i1 := min(i0+block, rows)
		for j := range cols {
			to := dst[j*rows+i0 : j*rows+i1]
			at := i0*cols + j
			for i := range to {
				to[i] = a[at]
				at += cols
			}
		}
	}
}

// gonum multiplies with goroutines of its own once there are this many blocks
// of 64x64 in the result: at these sizes they cost more than they give, and
// one network is to take one core.
const gonumBlock, gonumSerial = 64, 3

// gemm multiplies by gonum, in bands of rows that it computes serially. ar, ac
// and br, bc are rows and columns as a and b are stored.
func gemm(ta, tb blas.Transpose, a []float32, ar, ac int, b []float32, br, bc int, c []float32, n int, add bool) {
	m := ar
	if ta == blas.Trans {
		m = ac
	}
	beta := float32(0)
	if add {
		beta = 1
	}
	across := (n + gonumBlock - 1) / gonumBlock
	band := max(1, gonumSerial/across) * gonumBlock
	if across > gonumSerial {
		gemmColumns(ta, tb, a, ar, ac, b, br, bc, c, m, n, beta)
		return
	}
	bm := blas32.General{Rows: br, Cols: bc, Stride: bc, Data: b}
	for from := 0; from < m; from += band {
		rows := min(band, m-from)
		am := blas32.General{Rows: rows, Cols: ac, Stride: ac}
		if ta == blas.Trans {
			am.Rows, am.Cols, am.Data = ar, rows, a[from:]
		} else {
			am.Data = a[from*ac:]
		}
		blas32.Gemm(ta, tb, 1, am, bm, beta, blas32.General{Rows: rows, Cols: n, Stride: n, Data: c[from*n:]})
	}
}

// gemmColumns is gemm for wide results: bands of 64 rows and 3 * 64 columns.
func gemmColumns(ta, tb blas.Transpose, a []float32, ar, ac int, b []float32, br, bc int, c []float32, m, n int, beta float32) {
	const wide = gonumSerial * gonumBlock
	for col := 0; col < n; col += wide {
		cols := min(wide, n-col)
		bm := blas32.General{Rows: br, Cols: cols, Stride: bc, Data: b[col:]}
		if tb == blas.Trans {
			bm = blas32.General{Rows: cols, Cols: bc, Stride: bc, Data: b[col*bc:]}
		}
		for from := 0; from < m; from += gonumBlock {
			rows := min(gonumBlock, m-from)
			am := blas32.General{Rows: rows, Cols: ac, Stride: ac}
			if ta == blas.Trans {
				am.Rows, am.Cols, am.Data = ar, rows, a[from:]
			} else {
				am.Data = a[from*ac:]
			}
			blas32.Gemm(ta, tb, 1, am, bm, beta, blas32.General{Rows: rows, Cols: cols, Stride: n, Data: c[from*n+col:]})
		}
	}
}

// view is a matrix whose element (i, j) stands at i*row + j*col.
type view struct {
	data     []float32
	row, col int
}

// kernel is a faster way, on processors that have it.
type kernel struct {
	name     string
	multiply func(c []float32, a, b view, m, n, k int, add bool)
	// fma is dst[i] += a[i] * b[i].
	fma func(dst, a, b []float32)
	// adam is Adam's step; see the function of that name.
	adam func(w, g, m, v []float32, s adamStep)
}

// fast is the kernel in use, nil for gonum. EDGEGATEWAY_KERNEL=gonum turns the
// others off, to compare them.
var fast = chosen(os.Getenv("EDGEGATEWAY_KERNEL"))

func chosen(name string) *kernel {
	if name == "gonum" {
		return nil
	}
	return fastest()
}

// Kernel names what multiplies matrices here: gonum, avx2 or avx512.
func Kernel() string {
	if fast == nil {
		return "gonum"
	}
	return fast.name
}

// fma is dst[i] += a[i] * b[i], for slices of one length.
func fma(dst, a, b []float32) {
	if fast != nil {
		fast.fma(dst, a, b)
		return
	}
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] += a[i] * b[i]
	}
}

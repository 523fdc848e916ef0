package drift

import (
	"errors"
	"math"

	"gonum.org/v1/gonum/mat"
)

// What is looked at of a picture, and how fine.
const (
	side       = 16 // of the small gray picture
	cells      = side * side
	shades     = 16 // of the histogram
	components = 8
	grid       = 32 // points a side that are looked at, at most
)

// PictureNames are the numbers that stand for a picture: how far its histogram
// of grays is from the reference's (Hellinger's distance, 0..1), how far the
// small gray picture is from those of the reference (see Picture), the mean of
// the grays, their standard deviation, and the mean difference of neighbours
// (0..255).
var PictureNames = []string{"histogram", "embedding", "brightness", "contrast", "sharpness"}

// Look is what is remembered of a picture.
type Look struct {
	Small     [cells]float32 // gray, 0..255
	Histogram [shades]float32
	Bright    float32
	Contrast  float32
	Sharp     float32
}

// From looks at a picture of w x h pixels and c channels: pixel gives a value
// in 0..255 by its index, channels last. It allocates nothing and looks at no
// more than 32 x 32 points and their neighbours to the right.
func (l *Look) From(w, h, c int, pixel func(i int) float64) {
	*l = Look{}
	gw, gh := min(w, grid), min(h, grid)
	var seen [cells]float32
	gray := func(x, y int) float64 {
		at, sum := (y*w+x)*c, 0.0
		for k := range c {
			sum += pixel(at + k)
		}
		return min(max(sum/float64(c), 0), 255)
	}
	sum, square, sharp := 0.0, 0.0, 0.0
	for gy := range gh {
		y := (2*gy + 1) * h / (2 * gh)
		for gx := range gw {
			x := (2*gx + 1) * w / (2 * gw)
			v := gray(x, y)
			if x+1 < w {
				sharp += math.Abs(v - gray(x+1, y))
			}
			sum, square = sum+v, square+v*v
			l.Histogram[min(int(v)*shades/256, shades-1)]++
			cell := gy*side/gh*side + gx*side/gw
			l.Small[cell] += float32(v)
			seen[cell]++
		}
	}
	n := float64(gw * gh)
	for i := range l.Small {
		if seen[i] > 0 {
			l.Small[i] /= seen[i]
		}
	}
	for i := range l.Histogram {
		l.Histogram[i] /= float32(n)
	}
	mean := sum / n
	l.Bright, l.Contrast, l.Sharp = float32(mean), float32(math.Sqrt(max(square/n-mean*mean, 0))), float32(sharp/n)
}

// numbers writes what PictureNames names. Without a reference the first two
// are 0.
func (l *Look) numbers(dst []float64, p *Picture) {
	dst[0], dst[1] = 0, 0
	if p != nil {
		dst[0], dst[1] = p.histogram(l), p.embedding(l)
	}
	dst[2], dst[3], dst[4] = float64(l.Bright), float64(l.Contrast), float64(l.Sharp)
}

// Picture is what pictures of the reference look like: the mean of their
// histograms, and of the small gray pictures the mean and the main directions
// in which they differ (principal components). What a picture is in those, and
// what is left of it, each measured by how far the reference's pictures go, is
// its embedding; their root mean square is its distance.
type Picture struct {
	Histogram []float32   `json:"histogram"`
	Mean      []float32   `json:"mean"`
	Basis     [][]float32 `json:"basis"`  // unit vectors
	Spread    []float32   `json:"spread"` // standard deviation in each
	Rest      float32     `json:"rest"`   // root mean square of what is left
}

func (p *Picture) histogram(l *Look) float64 {
	sum := 0.0
	for i, v := range l.Histogram {
		sum += math.Sqrt(float64(v) * float64(p.Histogram[i]))
	}
	return math.Sqrt(max(1-sum, 0))
}

func (p *Picture) embedding(l *Look) float64 {
	left, sum := 0.0, 0.0
	for i, v := range l.Small {
		d := float64(v - p.Mean[i])
		left += d * d
	}
	for k, b := range p.Basis {
		z := 0.0
		for i, v := range l.Small {
			z += float64(v-p.Mean[i]) * float64(b[i])
		}
		left -= z * z
		z /= float64(p.Spread[k])
		sum += z * z
	}
	rest := float64(p.Rest)
	return math.Sqrt((sum + max(left, 0)/(rest*rest)) / float64(len(p.Basis)+1))
}

func (p *Picture) validate() error {
	bad := errors.New("picture: does not fit")
	if len(p.Histogram) != shades || len(p.Mean) != cells || len(p.Basis) != components || len(p.Spread) != components || !(p.Rest > 0) {
		return bad
	}
	for _, s := range p.Spread {
		if !(s > 0) || s-s != 0 {
			return bad
		}
	}
	for _, list := range append([][]float32{p.Histogram, p.Mean, {p.Rest}}, p.Basis...) {
		if len(list) != cells && len(list) > shades {
			return bad
		}
		for _, v := range list {
			if !(math.Abs(float64(v)) < 1e6) {
				return bad
			}
		}
	}
	for _, b := range p.Basis {
		if len(b) != cells {
			return bad
		}
	}
	for _, v := range p.Histogram {
		if v < 0 {
			return bad
		}
	}
	return nil
}

// pictures learns the reference's Picture, and writes how far its own pictures
// are from it into the rows. A picture is always nearer to what was learned of
// itself: so each eighth is held against what was learned of the other ones of
// its parity, as a new picture will be.
func (l *Learner) pictures() *Picture {
	eighth := max(1, (l.n+7)/8)
	fold := func(i int) int { return i / eighth % 2 }
	var half [2]*Picture
	for k := range half {
		half[k] = lookedLike(l.looks, func(i int) bool { return fold(i) != k })
	}
	width := len(l.names)
	for i := range l.looks {
		p := half[fold(i)]
		l.rows[i*width] = float32(p.histogram(&l.looks[i]))
		l.rows[i*width+1] = float32(p.embedding(&l.looks[i]))
	}
	return lookedLike(l.looks, func(int) bool { return true })
}

func lookedLike(looks []Look, take func(i int) bool) *Picture {
	p := &Picture{Histogram: make([]float32, shades), Mean: make([]float32, cells)}
	var at []int
	for i := range looks {
		if take(i) {
			at = append(at, i)
		}
	}
	n := float32(len(at))
	for _, i := range at {
		for k, v := range looks[i].Histogram {
			p.Histogram[k] += v / n
		}
		for k, v := range looks[i].Small {
			p.Mean[k] += v / n
		}
	}
	x := mat.NewDense(len(at), cells, nil)
	for row, i := range at {
		for k, v := range looks[i].Small {
			x.Set(row, k, float64(v-p.Mean[k]))
		}
	}
	cov := mat.NewSymDense(cells, nil)
	cov.SymOuterK(1/float64(len(at)), x.T())
	var eig mat.EigenSym
	eig.Factorize(cov, true) // it fails for what is not finite alone
	values := eig.Values(nil)
	var vectors mat.Dense
	eig.VectorsTo(&vectors)
	const least = 0.1 // of a shade: pictures that never change stay comparable
	rest := 0.0
	for k := range cells - components {
		rest += max(values[k], 0)
	}
	p.Rest = float32(max(math.Sqrt(rest), least))
	for k := range components {
		col := cells - 1 - k // eigenvalues ascend
		b := make([]float32, cells)
		for i := range b {
			b[i] = float32(vectors.At(i, col))
		}
		p.Basis = append(p.Basis, b)
		p.Spread = append(p.Spread, float32(max(math.Sqrt(max(values[col], 0)), least)))
	}
	return p
}

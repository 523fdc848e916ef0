package chart

import (
	"image/color"
	"math"
	"strconv"
)

// axis maps values to pixels.
type axis struct {
	low, high float64 // of what is shown
	log       bool
	whole     bool    // of counts: epochs, rounds
	from, to  float64 // pixels of low and high
}

// newAxis covers all finite values, with a little room; log is given up where
// a value is not above 0.
func newAxis(log, room bool, values ...[]float64) axis {
	a := axis{low: math.Inf(1), high: math.Inf(-1), log: log}
	for _, list := range values {
		for _, v := range list {
			if v-v == 0 {
				a.low, a.high = min(a.low, v), max(a.high, v)
			}
		}
	}
	if a.low > a.high {
		a.low, a.high = 0, 1
	}
	a.log = a.log && a.low > 0
	if a.low == a.high {
		if a.log {
			a.low, a.high = a.low/2, a.high*2
		} else {
			d := max(math.Abs(a.low)/10, 1e-9)
			a.low, a.high = a.low-d, a.high+d
		}
	}
	if room {
		if a.log {
			f := math.Pow(a.high/a.low, 0.06)
			a.low, a.high = a.low/f, a.high*f
		} else {
			d := 0.05 * (a.high - a.low)
			a.low, a.high = a.low-d, a.high+d
		}
	}
	return a
}

// whole says whether all values are whole numbers.
func whole(values ...[]float64) bool {
	for _, list := range values {
		for _, v := range list {
			if v != math.Trunc(v) {
				return false
			}
		}
	}
	return true
}

func (a axis) at(v float64) float64 {
	if a.log {
		return a.from + (a.to-a.from)*math.Log(v/a.low)/math.Log(a.high/a.low)
	}
	return a.from + (a.to-a.from)*(v-a.low)/(a.high-a.low)
}

// ticks are round numbers on the axis, about n of them.
func (a axis) ticks(n int) (list []float64) {
	if a.log {
		for _, steps := range [][]float64{{1}, {1, 3}, {1, 2, 5}, {1, 1.5, 2, 3, 5, 7}} {
			list = list[:0]
			for e := math.Floor(math.Log10(a.low)); e <= math.Ceil(math.Log10(a.high)); e++ {
				for _, s := range steps {
					if v := s * math.Pow(10, e); v >= a.low && v <= a.high {
						list = append(list, v)
					}
				}
			}
			if len(list) >= 3 {
				return thin(list, n)
			}
		}
	}
	raw := (a.high - a.low) / float64(n)
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	step := unit
	for _, f := range []float64{1, 2, 2.5, 5, 10} {
		if step = f * unit; step >= raw {
			break
		}
	}
	if a.whole {
		step = max(step, 1)
	}
	list = nil
	for i := math.Ceil(a.low/step - 1e-9); i*step <= a.high+step*1e-9; i++ {
		list = append(list, i*step)
	}
	return list
}

// thin leaves every second out until few are left.
func thin(list []float64, n int) []float64 {
	for len(list) > 2*n {
		var half []float64
		for i := 0; i < len(list); i += 2 {
			half = append(half, list[i])
		}
		list = half
	}
	return list
}

// number writes a tick in few characters.
func number(v float64) string {
	if math.Abs(v) < 1e-12 {
		return "0"
	}
	// What sums of steps leave behind the tenth digit is no part of the number.
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 10, 64), 64)
	s := strconv.FormatFloat(v, 'g', 4, 64)
	if a := math.Abs(v); a >= 1e-3 && a < 1e6 {
		s = strconv.FormatFloat(v, 'f', -1, 64)
		if len(s) > 7 {
			s = strconv.FormatFloat(v, 'f', max(0, 3-int(math.Floor(math.Log10(a)))), 64)
		}
	}
	return s
}

// frame is the field of a figure with two axes.
type frame struct {
	*Drawing
	x, y                     axis
	left, right, top, bottom float64
}

// newFrame draws title, axes, ticks and grid; legend is the room on the right.
func newFrame(w, h int, title, xName, yName string, x, y axis, legend float64) frame {
	f := frame{Drawing: newDrawing(w, h), x: x, y: y, top: 40, bottom: float64(h) - 52, right: float64(w) - 18 - legend}
	yTicks, wide := y.ticks(6), 0.0
	for _, v := range yTicks {
		wide = max(wide, width(number(v), small))
	}
	f.left = 36 + wide
	f.x.from, f.x.to = f.left, f.right
	f.y.from, f.y.to = f.bottom, f.top
	f.text(f.left, 24, large, 0, black, title)
	for _, v := range yTicks {
		p := f.y.at(v)
		f.line(1, faint, false, point{f.left, p}, point{f.right, p})
		f.text(f.left-6, p+4, small, 1, gray, number(v))
	}
	last := math.Inf(-1)
	for _, v := range x.ticks(8) {
		p := f.x.at(v)
		f.line(1, faint, false, point{p, f.top}, point{p, f.bottom})
		if half := width(number(v), small) / 2; p-half > last+6 {
			f.text(p, f.bottom+17, small, 0.5, gray, number(v))
			last = p + half
		}
	}
	f.line(1, gray, false, point{f.left, f.top}, point{f.left, f.bottom}, point{f.right, f.bottom})
	f.text((f.left+f.right)/2, float64(h)-12, small+1, 0.5, black, xName)
	f.shapes = append(f.shapes, shape{kind: 't', at: []point{{17, (f.top + f.bottom) / 2}}, size: small + 1, align: 0.5, color: black, text: yName, up: true})
	return f
}

// legendRoom is how wide a legend of these names is; 0 where there is nothing
// to tell apart.
func legendRoom(names []string) (room float64) {
	if len(names) < 2 {
		return 0
	}
	for _, n := range names {
		room = max(room, 44+width(n, small))
	}
	return min(room, 220)
}

// entry draws one line of the legend.
func (f *frame) entry(i int, name string, c color.RGBA, dash, dot bool) {
	x, y := f.right+14, f.top+8+18*float64(i)
	if dot {
		f.disc(x+9, y, 4.5, c)
	} else {
		f.line(2.5, c, dash, point{x, y}, point{x + 20, y})
	}
	f.text(x+26, y+4, small, 0, black, fitting(name, small, float64(f.W)-x-28))
}

// fitting shortens a text to a width.
func fitting(s string, size, room float64) string {
	if width(s, size) <= room {
		return s
	}
	r := []rune(s)
	for len(r) > 1 && width(string(r)+"…", size) > room {
		r = r[:len(r)-1]
	}
	return string(r) + "…"
}

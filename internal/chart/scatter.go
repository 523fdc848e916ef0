package chart

import "slices"

// Point is a dot with its name; points of one Group have one color and an
// entry in the legend.
type Point struct {
	X, Y         float64
	Label, Group string
}

// Scatter is a figure of labelled points, such as accuracy over size.
type Scatter struct {
	Title, X, Y string
	LogX, LogY  bool
	Points      []Point
	// AtX and AtY are bounds, such as the most bytes that a file may have: dashed
	// lines across the field, each with its name.
	AtX, AtY []Bound
}

// Bound is a value on an axis that something must not pass.
type Bound struct {
	At   float64
	Name string
}

// Draw makes the figure, 720 x 420. Points that are no finite numbers are left
// out.
func (c Scatter) Draw() *Drawing {
	var xs, ys []float64
	var points []Point
	var groups []string
	for _, p := range c.Points {
		if p.X-p.X != 0 || p.Y-p.Y != 0 {
			continue
		}
		points, xs, ys = append(points, p), append(xs, p.X), append(ys, p.Y)
		if !slices.Contains(groups, p.Group) {
			groups = append(groups, p.Group)
		}
	}
	xs, ys = append(xs, values(c.AtX)...), append(ys, values(c.AtY)...)
	f := newFrame(720, 420, c.Title, c.X, c.Y, newAxis(c.LogX, true, xs), newAxis(c.LogY, true, ys), legendRoom(groups))
	var taken []box
	for _, b := range c.AtX {
		if x := f.x.at(b.At); x >= f.left && x <= f.right {
			f.line(1.5, gray, true, point{x, f.top}, point{x, f.bottom})
			taken = append(taken, f.name(x, f.bottom-9, b.Name))
		}
	}
	for _, b := range c.AtY {
		if y := f.y.at(b.At); y >= f.top && y <= f.bottom {
			f.line(1.5, gray, true, point{f.left, y}, point{f.right, y})
			taken = append(taken, f.name(f.right, y-9, b.Name))
		}
	}
	bounds := len(taken)
	for _, p := range points {
		x, y := f.x.at(p.X), f.y.at(p.Y)
		taken = append(taken, box{x - 5, y - 5, x + 5, y + 5})
	}
	for i, p := range points {
		x, y := f.x.at(p.X), f.y.at(p.Y)
		f.disc(x, y, 4.5, palette[slices.Index(groups, p.Group)%len(palette)])
		b := f.place(x, y, width(p.Label, small), taken, bounds+i)
		taken = append(taken, b)
		f.text(b.x0, b.y1-3, small, 0, black, p.Label)
	}
	if len(groups) > 1 {
		for i, g := range groups {
			f.entry(i, g, palette[i%len(palette)], false, true)
		}
	}
	return f.Drawing
}

// values are those of the bounds that are finite numbers.
func values(list []Bound) (v []float64) {
	for _, b := range list {
		if b.At-b.At == 0 {
			v = append(v, b.At)
		}
	}
	return v
}

// name writes the name of a bound behind x, or before it where there is no room.
func (f *frame) name(x, y float64, text string) box {
	w := width(text, small)
	if x+5+w > f.right {
		x -= w + 10
	}
	f.text(x+5, y+4, small, 0, gray, text)
	return box{x + 5, y - 8, x + 5 + w, y + 7}
}

type box struct{ x0, y0, x1, y1 float64 }

func (b box) overlap(c box) float64 {
	return max(0, min(b.x1, c.x1)-max(b.x0, c.x0)) * max(0, min(b.y1, c.y1)-max(b.y0, c.y0))
}

// place finds room for a label of width w beside a point: the place where it
// covers least of what is there and is wholly inside.
func (f *frame) place(x, y, w float64, taken []box, own int) (best box) {
	least := -1.0
	for _, d := range []point{{8, 0}, {-8 - w, 0}, {-w / 2, -14}, {-w / 2, 14}, {8, -13}, {8, 13}, {-8 - w, -13}, {-8 - w, 13}, {-w / 2, -28}, {-w / 2, 28}} {
		b := box{x + d.x, y + d.y - 8, x + d.x + w, y + d.y + 7}
		cost := 0.0
		for i, t := range taken {
			if i != own {
				cost += b.overlap(t)
			}
		}
		whole := (b.x1 - b.x0) * (b.y1 - b.y0)
		cost += 4 * (whole - b.overlap(box{f.left, f.top, f.right, f.bottom}))
		if least < 0 || cost < least {
			least, best = cost, b
		}
	}
	return best
}

package chart

// Series is a line of a figure. X may be nil: 1, 2, 3 ... Values that are no
// finite number break the line.
type Series struct {
	Name string
	X, Y []float64
	Dash bool
}

// Lines is a figure of series over one axis, such as loss over epochs.
type Lines struct {
	Title, X, Y string
	LogX, LogY  bool
	Series      []Series
}

// Draw makes the figure, 720 x 420.
func (c Lines) Draw() *Drawing {
	var xs, ys [][]float64
	var names []string
	series := append([]Series(nil), c.Series...)
	for i := range series {
		s := &series[i]
		if s.X == nil {
			for k := range s.Y {
				s.X = append(s.X, float64(k+1))
			}
		}
		n := min(len(s.X), len(s.Y))
		s.X, s.Y = s.X[:n], s.Y[:n]
		xs, ys, names = append(xs, s.X), append(ys, s.Y), append(names, s.Name)
	}
	x := newAxis(c.LogX, false, xs...)
	x.whole = whole(xs...)
	f := newFrame(720, 420, c.Title, c.X, c.Y, x, newAxis(c.LogY, true, ys...), legendRoom(names))
	for i, s := range series {
		color := palette[i%len(palette)]
		var run []point
		flush := func() {
			switch {
			case len(run) == 1:
				f.disc(run[0].x, run[0].y, 2.5, color)
			case len(run) > 1:
				f.line(2, color, s.Dash, run...)
			}
			run = nil
		}
		for k := range s.Y {
			x, y := s.X[k], s.Y[k]
			if x-x != 0 || y-y != 0 {
				flush()
				continue
			}
			run = append(run, point{f.x.at(x), f.y.at(y)})
		}
		flush()
		if len(series) > 1 {
			f.entry(i, s.Name, color, s.Dash, false)
		}
	}
	return f.Drawing
}

package chart

import (
	"image/color"
	"math"
)

// Heat is a table of shades with its numbers, such as a confusion matrix: a row
// is a true class, a column an answer.
type Heat struct {
	Title, X, Y   string
	Rows, Columns []string
	Values        [][]float64 // [row][column]
	PerRow        bool        // shades by the share of the row's sum, else of the largest value
}

// maxCells is how many rows or columns are named and drawn with room for a
// number; beyond it cells shrink.
const maxCells = 24

// Draw makes the figure; its size follows the table's.
func (c Heat) Draw() *Drawing {
	rows, columns := len(c.Values), 0
	for _, r := range c.Values {
		columns = max(columns, len(r))
	}
	cell := 40.0
	if n := max(rows, columns); n > maxCells {
		cell = max(2, 40*maxCells/float64(n))
	}
	left, lower := 44.0, 0.0
	for i := range rows {
		left = max(left, 40+min(width(name(c.Rows, i), small), 140))
	}
	for i := range columns {
		lower = max(lower, min(width(name(c.Columns, i), small), 140))
	}
	turned := lower > cell-4 // names below stand upright
	if !turned {
		lower = small
	}
	top := 44.0
	w := max(left+cell*float64(columns)+20, 40+width(c.Title, large))
	h := top + cell*float64(rows) + lower + 48
	d := newDrawing(int(math.Ceil(w)), int(math.Ceil(h)))
	d.text(16, 24, large, 0, black, c.Title)
	largest := 0.0
	for _, r := range c.Values {
		for _, v := range r {
			if v-v == 0 {
				largest = max(largest, v)
			}
		}
	}
	for i, r := range c.Values {
		of := largest
		if c.PerRow {
			of = 0
			for _, v := range r {
				of += v
			}
		}
		y := top + cell*float64(i)
		if cell >= small+2 {
			d.text(left-6, y+cell/2+4, small, 1, gray, fitting(name(c.Rows, i), small, 140))
		}
		for j, v := range r {
			x := left + cell*float64(j)
			share := 0.0
			if of > 0 && v-v == 0 {
				share = min(max(v/of, 0), 1)
			}
			gap := min(1, cell/8)
			d.rect(x, y, cell-gap, cell-gap, shade(share))
			if text := number(v); cell >= 26 && width(text, small) < cell-4 {
				ink := black
				if share > 0.55 {
					ink = white
				}
				d.text(x+cell/2, y+cell/2+4, small, 0.5, ink, text)
			}
		}
	}
	bottom := top + cell*float64(rows)
	for j := range columns {
		x := left + cell*(float64(j)+0.5)
		switch text := fitting(name(c.Columns, j), small, 140); {
		case cell < small+2:
		case turned:
			d.shapes = append(d.shapes, shape{kind: 't', at: []point{{x + 4, bottom + 8}}, size: small, align: 1, color: gray, text: text, up: true})
		default:
			d.text(x, bottom+16, small, 0.5, gray, text)
		}
	}
	d.text(left+cell*float64(columns)/2, h-12, small+1, 0.5, black, c.X)
	d.shapes = append(d.shapes, shape{kind: 't', at: []point{{17, top + cell*float64(rows)/2}}, size: small + 1, align: 0.5, color: black, text: c.Y, up: true})
	return d
}

func name(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return number(float64(i))
}

// shade goes from nearly white to the palette's blue.
func shade(share float64) color.RGBA {
	s := math.Sqrt(share) // few among many are seen too
	mix := func(a, b uint8) uint8 { return uint8(float64(a) + (float64(b)-float64(a))*s) }
	return color.RGBA{mix(244, 0), mix(246, 88), mix(250, 150), 255}
}

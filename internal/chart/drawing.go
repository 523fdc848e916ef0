package chart

import (
	"bytes"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"strings"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// Drawing is a finished figure: shapes in the order they are painted, in
// pixels from the upper left corner.
type Drawing struct {
	W, H   int
	shapes []shape
}

// shape is one of: a filled rectangle, a line through points, a disc, a text.
type shape struct {
	kind  byte // 'r', 'l', 'd', 't'
	at    []point
	size  float64 // 'l': width; 'd': radius; 't': height of the letters
	color color.RGBA
	text  string
	align float64 // 0: the text begins at the point, 0.5: its middle is there, 1: it ends there
	up    bool    // the text reads upwards
	dash  bool
}

type point struct{ x, y float64 }

// small and large are heights of letters.
const small, large = 12, 15

var (
	black = color.RGBA{32, 32, 32, 255}
	gray  = color.RGBA{110, 110, 110, 255}
	faint = color.RGBA{226, 226, 226, 255}
	white = color.RGBA{255, 255, 255, 255}
	// palette tells series apart, for those who do not see red and green too
	// (Okabe and Ito).
	palette = []color.RGBA{{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255},
		{86, 180, 233, 255}, {230, 159, 0, 255}, {100, 100, 100, 255}, {148, 103, 189, 255}}
)

func newDrawing(w, h int) *Drawing {
	d := &Drawing{W: w, H: h}
	d.rect(0, 0, float64(w), float64(h), white)
	return d
}

func (d *Drawing) rect(x, y, w, h float64, c color.RGBA) {
	d.shapes = append(d.shapes, shape{kind: 'r', at: []point{{x, y}, {x + w, y + h}}, color: c})
}

func (d *Drawing) line(width float64, c color.RGBA, dash bool, at ...point) {
	d.shapes = append(d.shapes, shape{kind: 'l', at: at, size: width, color: c, dash: dash})
}

func (d *Drawing) disc(x, y, r float64, c color.RGBA) {
	d.shapes = append(d.shapes, shape{kind: 'd', at: []point{{x, y}}, size: r, color: c})
}

func (d *Drawing) text(x, y, size, align float64, c color.RGBA, s string) {
	d.shapes = append(d.shapes, shape{kind: 't', at: []point{{x, y}}, size: size, align: align, color: c, text: s})
}

// SVG gives the figure as a file that scales.
func (d *Drawing) SVG() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="Go, Helvetica, Arial, sans-serif">`+"\n", d.W, d.H, d.W, d.H)
	for _, s := range d.shapes {
		c := fmt.Sprintf("#%02x%02x%02x", s.color.R, s.color.G, s.color.B)
		switch s.kind {
		case 'r':
			fmt.Fprintf(&b, `<rect x="%s" y="%s" width="%s" height="%s" fill="%s"/>`+"\n", px(s.at[0].x), px(s.at[0].y), px(s.at[1].x-s.at[0].x), px(s.at[1].y-s.at[0].y), c)
		case 'l':
			var p strings.Builder
			for i, q := range s.at {
				if i > 0 {
					p.WriteByte(' ')
				}
				p.WriteString(px(q.x) + "," + px(q.y))
			}
			dash := ""
			if s.dash {
				dash = ` stroke-dasharray="6 4"`
			}
			fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="%s" stroke-linejoin="round"%s/>`+"\n", p.String(), c, px(s.size), dash)
		case 'd':
			fmt.Fprintf(&b, `<circle cx="%s" cy="%s" r="%s" fill="%s"/>`+"\n", px(s.at[0].x), px(s.at[0].y), px(s.size), c)
		case 't':
			anchor := "start"
			if s.align == 0.5 {
				anchor = "middle"
			} else if s.align == 1 {
				anchor = "end"
			}
			turn := ""
			if s.up {
				turn = fmt.Sprintf(` transform="rotate(-90 %s %s)"`, px(s.at[0].x), px(s.at[0].y))
			}
			fmt.Fprintf(&b, `<text x="%s" y="%s" font-size="%s" fill="%s" text-anchor="%s"%s>%s</text>`+"\n", px(s.at[0].x), px(s.at[0].y), px(s.size), c, anchor, turn, html.EscapeString(clean(s.text)))
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// px writes a coordinate with what a screen can show of it.
func px(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
}

// clean takes out what XML forbids and what has no width.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0xfffe || r == 0xffff || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// scale is how many pixels of the PNG a unit of the drawing has.
const scale = 2

// PNG gives the figure as pixels, two a unit.
func (d *Drawing) PNG() ([]byte, error) {
	img := image.NewRGBA(image.Rect(0, 0, scale*d.W, scale*d.H))
	for _, s := range d.shapes {
		switch s.kind {
		case 'r':
			fill(img, s.color, [][]point{{s.at[0], {s.at[1].x, s.at[0].y}, s.at[1], {s.at[0].x, s.at[1].y}}})
		case 'l':
			fill(img, s.color, s.outlines())
		case 'd':
			fill(img, s.color, [][]point{circle(s.at[0], s.size)})
		case 't':
			if err := s.write(img); err != nil {
				return nil, err
			}
		}
	}
	var b bytes.Buffer
	err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, img)
	return b.Bytes(), err
}

// fill paints polygons: the part of the picture that they lie in, since a matrix
// of many classes is thousands of small ones.
func fill(img *image.RGBA, c color.RGBA, polygons [][]point) {
	low, high := point{math.Inf(1), math.Inf(1)}, point{math.Inf(-1), math.Inf(-1)}
	for _, p := range polygons {
		for _, q := range p {
			low.x, low.y = min(low.x, q.x*scale), min(low.y, q.y*scale)
			high.x, high.y = max(high.x, q.x*scale), max(high.y, q.y*scale)
		}
	}
	if !(low.x <= high.x && low.y <= high.y) {
		return
	}
	box := image.Rect(int(max(low.x, 0)), int(max(low.y, 0)), int(min(high.x, 1e6))+1, int(min(high.y, 1e6))+1).Intersect(img.Rect)
	if box.Empty() {
		return
	}
	r := vector.NewRasterizer(box.Dx(), box.Dy())
	for _, p := range polygons {
		for i, q := range p {
			x, y := float32(q.x*scale-float64(box.Min.X)), float32(q.y*scale-float64(box.Min.Y))
			if i == 0 {
				r.MoveTo(x, y)
			} else {
				r.LineTo(x, y)
			}
		}
		r.ClosePath()
	}
	r.Draw(img, box, image.NewUniform(c), image.Point{})
}

func circle(at point, r float64) (p []point) {
	for i := range 24 {
		a := 2 * math.Pi * float64(i) / 24
		p = append(p, point{at.x + r*math.Cos(a), at.y + r*math.Sin(a)})
	}
	return p
}

// outlines are a line as polygons of one sense of rotation, so that where they
// overlap nothing is left out: a box a piece and a disc a bend.
func (s *shape) outlines() (list [][]point) {
	for i := 1; i < len(s.at); i++ {
		a, b := s.at[i-1], s.at[i]
		length := math.Hypot(b.x-a.x, b.y-a.y)
		if length == 0 {
			continue
		}
		ux, uy := (b.x-a.x)/length, (b.y-a.y)/length
		nx, ny := -uy*s.size/2, ux*s.size/2
		on, off := length, 0.0
		if s.dash {
			on, off = 6, 4
		}
		for from := 0.0; from < length; from += on + off {
			to := min(from+on, length)
			p, q := point{a.x + ux*from, a.y + uy*from}, point{a.x + ux*to, a.y + uy*to}
			list = append(list, []point{{p.x - nx, p.y - ny}, {q.x - nx, q.y - ny}, {q.x + nx, q.y + ny}, {p.x + nx, p.y + ny}})
		}
		if i < len(s.at)-1 && !s.dash && s.size > 1 {
			list = append(list, circle(b, s.size/2))
		}
	}
	return list
}

var letters = sync.OnceValues(func() (*opentype.Font, error) { return opentype.Parse(goregular.TTF) })

func face(size float64) (font.Face, error) {
	f, err := letters()
	if err != nil {
		return nil, err
	}
	return opentype.NewFace(f, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
}

// width is how wide a text is drawn.
func width(s string, size float64) float64 {
	f, err := face(size * scale)
	if err != nil {
		return float64(len(s)) * size / 2
	}
	defer f.Close()
	return float64(font.MeasureString(f, clean(s))) / 64 / scale
}

// write paints a text.
func (s *shape) write(img *image.RGBA) error {
	f, err := face(s.size * scale)
	if err != nil {
		return err
	}
	defer f.Close()
	text := clean(s.text)
	w := font.MeasureString(f, text).Ceil()
	x, y := s.at[0].x*scale, s.at[0].y*scale
	if !s.up {
		d := font.Drawer{Dst: img, Src: image.NewUniform(s.color), Face: f,
			Dot: fixed.P(int(math.Round(x-s.align*float64(w))), int(math.Round(y)))}
		d.DrawString(text)
		return nil
	}
	// Upwards: written flat, then turned a quarter to the left.
	m := f.Metrics()
	flat := image.NewAlpha(image.Rect(0, 0, w+2, m.Ascent.Ceil()+m.Descent.Ceil()))
	d := font.Drawer{Dst: flat, Src: image.Opaque, Face: f, Dot: fixed.P(0, m.Ascent.Ceil())}
	d.DrawString(text)
	turned := image.NewAlpha(image.Rect(0, 0, flat.Rect.Dy(), flat.Rect.Dx()))
	for v := range flat.Rect.Dy() {
		for u := range flat.Rect.Dx() {
			turned.SetAlpha(v, flat.Rect.Dx()-1-u, flat.AlphaAt(u, v))
		}
	}
	at := image.Pt(int(math.Round(x))-m.Ascent.Ceil(), int(math.Round(y-(1-s.align)*float64(flat.Rect.Dx()))))
	draw.DrawMask(img, turned.Rect.Add(at), image.NewUniform(s.color), image.Point{}, turned, image.Point{}, draw.Over)
	return nil
}

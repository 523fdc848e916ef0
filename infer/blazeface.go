package infer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"
)

// BlazeFace, short range: two maps of anchors over the input, 16x16 cells with
// 2 anchors each and 8x8 cells with 6 (for a 128x128 input strides 8, and
// three layers of stride 16).
const (
	faceAnchors = 16*16*2 + 8*8*6
	facePoints  = 6 // eyes, nose, mouth, ears
	faceNumbers = 4 + 2*facePoints
	// overlap above which two boxes are one face.
	faceOverlap = 0.3
)

// blazeFace reads the outputs of a BlazeFace model: for each anchor the logit
// of a face, and its box (centre, width and height) and key points, all
// relative to the anchor's centre and in pixels of the input. Overlapping
// boxes become one, the mean of them weighted by score.
// From "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs",
// arXiv:1907.05047.
type blazeFace struct {
	boxes, scores int // which output is which
	side          float64
	anchors       [][2]float64 // centres in fractions
	label         string
	logit         float64   // of the threshold: sigmoids are for what passes it
	scratch       sync.Pool // of *[]face
}

// face is a candidate: box x0, y0, x1, y1 and points in fractions.
type face struct {
	score  float64
	box    [4]float64
	points [facePoints][2]float64
	merged bool
}

// isBlazeFace says whether the shapes are those of BlazeFace.
func isBlazeFace(ins, outs []TensorInfo) bool {
	if len(ins) != 1 || len(outs) != 2 || len(ins[0].Shape) != 4 || ins[0].Shape[1] != ins[0].Shape[2] || ins[0].Shape[1] == 0 {
		return false
	}
	a, b := elements(outs[0].Shape), elements(outs[1].Shape)
	return max(a, b) == faceAnchors*faceNumbers && min(a, b) == faceAnchors
}

func newBlazeFace(cfg ModelConfig, ins, outs []TensorInfo, labels []string) (*blazeFace, error) {
	if !isBlazeFace(ins, outs) {
		return nil, fmt.Errorf("blazeface needs a square picture and outputs of %d x %d and %d x 1, here inputs %v and outputs %v", faceAnchors, faceNumbers, faceAnchors, shapes(ins), shapes(outs))
	}
	d := &blazeFace{boxes: 0, scores: 1, side: float64(ins[0].Shape[1]), label: "face"}
	if elements(outs[0].Shape) < elements(outs[1].Shape) {
		d.boxes, d.scores = 1, 0
	}
	if len(labels) > 0 && labels[0] != "" {
		d.label = labels[0]
	}
	threshold := defaultThreshold
	if cfg.Threshold != nil {
		threshold = min(max(*cfg.Threshold, 0), 1)
	}
	d.logit = math.Log(threshold / (1 - threshold)) // -Inf for 0, +Inf for 1
	for _, layer := range []struct{ cells, each int }{{16, 2}, {8, 6}} {
		for i := range layer.cells * layer.cells * layer.each {
			cell := i / layer.each
			d.anchors = append(d.anchors, [2]float64{
				(float64(cell%layer.cells) + 0.5) / float64(layer.cells),
				(float64(cell/layer.cells) + 0.5) / float64(layer.cells),
			})
		}
	}
	d.scratch.New = func() any { return new([]face) }
	return d, nil
}

func (d *blazeFace) decode(_, out []Tensor, r *Result) error {
	boxes, scores := &out[d.boxes], &out[d.scores]
	if err := sized(scores, d.scores, faceAnchors); err != nil {
		return err
	}
	if err := sized(boxes, d.boxes, faceAnchors*faceNumbers); err != nil {
		return err
	}
	scratch := d.scratch.Get().(*[]face)
	defer d.scratch.Put(scratch)
	found := (*scratch)[:0]
	var logits [block]float64
	for i := range d.anchors {
		if i%block == 0 {
			read(scores, i, logits[:min(block, faceAnchors-i)])
		}
		logit := logits[i%block]
		if !finite(logit) {
			return errNotFinite(d.scores, i, logit)
		}
		if logit < d.logit {
			continue
		}
		f, err := d.face(boxes, i)
		if err != nil {
			return err
		}
		f.score = 1 / (1 + math.Exp(-min(max(logit, -100), 100)))
		found = append(found, f)
	}
	*scratch = found
	slices.SortStableFunc(found, func(a, b face) int { return cmp.Compare(b.score, a.score) })
	r.Objects = r.Objects[:0]
	for i := range found {
		if len(r.Objects) == maxObjects {
			break
		}
		if !found[i].merged {
			d.merge(found[i:], r)
		}
	}
	bestObject(r)
	return nil
}

// face reads the box and the points of anchor i.
func (d *blazeFace) face(boxes *Tensor, i int) (face, error) {
	var v [faceNumbers]float64
	read(boxes, i*faceNumbers, v[:])
	for k := range v {
		if v[k] /= d.side; !finite(v[k]) {
			return face{}, errNotFinite(d.boxes, i*faceNumbers+k, v[k])
		}
	}
	a := d.anchors[i]
	x, y, w, h := a[0]+v[0], a[1]+v[1], max(v[2], 0), max(v[3], 0)
	f := face{box: [4]float64{x - w/2, y - h/2, x + w/2, y + h/2}}
	for k := range f.points {
		f.points[k] = [2]float64{a[0] + v[4+2*k], a[1] + v[5+2*k]}
	}
	return f, nil
}

// merge makes one object of the first of found, the best that is left, and all
// that overlap it.
func (d *blazeFace) merge(found []face, r *Result) {
	best := found[0]
	var sum face
	for i := range found {
		f := &found[i]
		if f.merged || i > 0 && overlap(best.box, f.box) <= faceOverlap {
			continue
		}
		f.merged = true
		sum.score += f.score
		for k := range f.box {
			sum.box[k] += f.score * f.box[k]
		}
		for k, p := range f.points {
			sum.points[k][0] += f.score * p[0]
			sum.points[k][1] += f.score * p[1]
		}
	}
	var box [4]float64
	for k := range box {
		box[k] = min(max(sum.box[k]/sum.score, 0), 1)
	}
	if box[2] <= box[0] || box[3] <= box[1] {
		return // outside the picture
	}
	o := nextObject(r)
	o.Label, o.Score, o.Box = d.label, best.score, box
	for _, p := range sum.points {
		o.Points = append(o.Points, [2]float64{p[0] / sum.score, p[1] / sum.score})
	}
}

// overlap is the area that two boxes share, of the area that they cover.
func overlap(a, b [4]float64) float64 {
	w := min(a[2], b[2]) - max(a[0], b[0])
	h := min(a[3], b[3]) - max(a[1], b[1])
	if w <= 0 || h <= 0 {
		return 0
	}
	both := w * h
	return both / ((a[2]-a[0])*(a[3]-a[1]) + (b[2]-b[0])*(b[3]-b[1]) - both)
}

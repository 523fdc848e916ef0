package infer

import "time"

// Result is what a model said about one input. A caller hands the same Result
// to Model.Run again and again: its slices are reused, so what must outlive
// the next call is copied.
type Result struct {
	Model    string  // the name in the configuration
	Version  string  // of the model, "" where it has none
	Delegate string  // what computed it: "builtin", "xnnpack:3", "external" ...
	Label    string  // the best class or object; "" for numbers
	Score    float64 // of Label; for an autoencoder the reconstruction error
	Top      []Class // the best classes, best first
	Objects  []Object
	Values   []float64     // the dequantized output of a regression or raw model
	Took     time.Duration // Invoke and what surrounds it, without the queue
}

// Class is one class with its score.
type Class struct {
	Label string
	Index int
	Score float64
}

// Object is something found in a picture.
type Object struct {
	Label string
	Score float64
	// Box is x0, y0, x1, y1 as fractions of the picture, origin top left.
	Box [4]float64
	// Points are key points of the object (eyes, nose ...), in the same unit.
	Points [][2]float64
}

// Reset empties r and keeps its memory.
func (r *Result) Reset() {
	r.Model, r.Version, r.Delegate, r.Label, r.Score, r.Took = "", "", "", "", 0, 0
	r.Top, r.Objects, r.Values = r.Top[:0], r.Objects[:0], r.Values[:0]
}

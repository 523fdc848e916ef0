package pipeline

import (
	"encoding/binary"
	"math"

	"edgegateway/infer/drift"
	"edgegateway/sensors"
)

// readingsOf is how many values a reading has where the model takes readings
// one after another, 0 elsewhere.
func (w *worker) readingsOf(src *source) int {
	if src.window == nil || w.features != nil {
		return 0
	}
	return max(1, len(w.s.values))
}

// inputNames are the names of what is looked at of a sample's input.
func (w *worker) inputNames(at *slot) []string {
	if w.images != nil {
		return drift.PictureNames
	}
	names := w.names
	if w.s.cfg.Window != nil && w.features == nil {
		names = w.s.values
	}
	return drift.InputNames(names, len(at.kept), w.readingsOf(at.src))
}

// pixelOf gives a value of the picture in the model's input as a shade in
// 0..255, by its index.
func (w *worker) pixelOf(i int) float64 {
	p := &w.pixels
	switch p.Type {
	case sensors.Uint8:
		return float64(p.Data[i])
	case sensors.Int8:
		return float64(int8(p.Data[i])) + 128
	}
	v := float64(math.Float32frombits(binary.LittleEndian.Uint32(p.Data[4*i:])))
	mean, std := w.s.cfg.Picture.Mean, w.s.cfg.Picture.Std
	if len(mean)+len(std) == 0 { // -1..1
		return (v + 1) * 127.5
	}
	of := func(list []float64, none float64) float64 {
		switch len(list) {
		case 0:
			return none
		case 1:
			return list[0]
		}
		return list[i%p.C%len(list)]
	}
	return v*of(std, 1) + of(mean, 0)
}

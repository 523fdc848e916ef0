package sensors

import (
	"encoding/binary"
	"math"
)

// tables turn a byte of each channel into what the tensor holds: a byte for
// quantized types, the bits of a float for float32.
type tables struct {
	bytes [3][256]byte
	bits  [3][256]uint32
	made  bool
	plain bool // the bytes go as they stand
	mean  [3]float64
	std   [3]float64
	given bool
	dst   Target
}

// prepare fills the tables where they are not for this input already.
// Floats become (pixel - mean) / std, by default -1..1. Quantized inputs take
// the pixel as it stands (uint8) or less 128 (int8), which is what converters
// make of pictures; with mean or std given, the real value is quantized.
func (t *tables) prepare(cfg ImageConfig, dst Target) {
	mean, std := perChannel(cfg.Mean), perChannel(cfg.Std)
	given := len(cfg.Mean) > 0 || len(cfg.Std) > 0
	same := t.made && t.given == given && t.mean == mean && t.std == std &&
		t.dst.Type == dst.Type && t.dst.Scale == dst.Scale && t.dst.ZeroPoint == dst.ZeroPoint
	if same {
		return
	}
	t.made, t.given, t.mean, t.std = true, given, mean, std
	t.dst = Target{Type: dst.Type, Scale: dst.Scale, ZeroPoint: dst.ZeroPoint}
	t.plain = !given && dst.Type == Uint8
	for c := range 3 {
		for v := range 256 {
			real := (float64(v) - mean[c]) / std[c]
			switch {
			case dst.Type == Float32:
				t.bits[c][v] = math.Float32bits(float32(real))
			case !given && dst.Type == Uint8:
				t.bytes[c][v] = byte(v)
			case !given:
				t.bytes[c][v] = byte(v - 128)
			default:
				q := math.Round(real/float64(dst.Scale)) + float64(dst.ZeroPoint)
				if dst.Type == Uint8 {
					t.bytes[c][v] = byte(min(max(q, 0), 255))
				} else {
					t.bytes[c][v] = byte(int8(min(max(q, -128), 127)))
				}
			}
		}
	}
}

func perChannel(v []float64) (out [3]float64) {
	for i := range out {
		switch {
		case len(v) == 0:
			out[i] = 127.5
		case i < len(v):
			out[i] = v[i]
		default:
			out[i] = v[0]
		}
	}
	return out
}

// write turns one row of bytes, a channel each, into the tensor's type.
func (t *tables) write(out, row []byte, dst Target) {
	switch {
	case t.plain:
		copy(out, row)
	case dst.Type == Float32 && dst.C == 1:
		for i, v := range row {
			binary.LittleEndian.PutUint32(out[4*i:], t.bits[0][v])
		}
	case dst.Type == Float32:
		for len(row) >= 3 && len(out) >= 12 {
			binary.LittleEndian.PutUint32(out, t.bits[0][row[0]])
			binary.LittleEndian.PutUint32(out[4:], t.bits[1][row[1]])
			binary.LittleEndian.PutUint32(out[8:], t.bits[2][row[2]])
			row, out = row[3:], out[12:]
		}
	case dst.C == 1:
		for i, v := range row {
			out[i] = t.bytes[0][v]
		}
	default:
		for len(row) >= 3 && len(out) >= 3 {
			out[0], out[1], out[2] = t.bytes[0][row[0]], t.bytes[1][row[1]], t.bytes[2][row[2]]
			row, out = row[3:], out[3:]
		}
	}
}

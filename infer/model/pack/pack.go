package pack

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/zstd"

	"edgegateway/infer/model"
)

// A packed file: the magic with the version, a CRC-32 (Castagnoli) of all that
// follows, the SHA-256 of the .tflite, whether there is a base (0 or 1) and its
// SHA-256, the size of the .tflite, the bytes of zeros at the end, the number of
// holes; then the list of the holes and the skeleton, each as form, size and
// bytes in the form, then each hole's bytes in its form, then the zeros.
// Numbers are unsigned varints.
const (
	magic     = "EGWP\x02"
	crcAt     = len(magic)
	contentAt = crcAt + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Unpack takes no file that claims to be larger than floor bytes, ratio times
// the packed one and twice its base together: a model with less in it than that
// is packed with zeros at its end.
const (
	floor = 1 << 18
	ratio = 256
)

// least is the size of a constant that is worth a form of its own, most how
// many may have one.
const (
	least = 8
	most  = 1 << 14
)

// Part is what became of a part of the model.
type Part struct {
	Name   string `json:"name"` // of the tensor; "" for all that is no constant
	Type   string `json:"type,omitempty"`
	Shape  []int  `json:"shape,omitempty"`
	Bytes  int    `json:"bytes"`
	Packed int    `json:"packed"`
	Form   string `json:"form"`
}

// Pack gives the transport form of a .tflite file; with base, the bytes of an
// older version of the model, what changed since. The error wraps
// model.ErrFormat where one of the two is no .tflite file.
func Pack(tflite, base []byte) ([]byte, error) {
	packed, _, err := PackParts(tflite, base)
	return packed, err
}

// Is says whether data begins as a packed model does.
func Is(data []byte) bool { return bytes.HasPrefix(data, []byte(magic[:4])) }

// hole is where a constant stands in the .tflite.
type hole struct {
	at, size, width, row int
	before               int // where its base stands in the base file; -1: it has none
	length               int // of data
	coded
}

// PackParts is Pack, and says what each part took.
func PackParts(tflite, base []byte) ([]byte, []Part, error) {
	places, err := placesOf(tflite)
	if err != nil {
		return nil, nil, err
	}
	var old []model.Place
	if base != nil {
		if old, err = placesOf(base); err != nil {
			return nil, nil, fmt.Errorf("the base: %w", err)
		}
	}
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, nil, err
	}
	p := &packer{logistic: newLogistic(), zip: zip, left: patient}
	holes := make([]hole, len(places))
	for i, was := range match(places, old) {
		h := holeOf(places[i])
		if h.before = -1; was != nil {
			h.before = was.Offset
		}
		holes[i] = h
	}
	// The small ones first, so that none is hurried because of a long one.
	var parts []Part
	for _, i := range order(holes) {
		h := &holes[i]
		var b []byte
		if h.before >= 0 {
			b = base[h.before : h.before+h.size]
		}
		h.coded = p.smallest(tflite[h.at:h.at+h.size], b, h.width, h.row)
	}
	for i, h := range holes {
		t := places[i].Tensor
		parts = append(parts, Part{t.Name, t.Type.String(), t.Shape, h.size, len(h.data), formNames[h.form]})
	}
	rest := skeleton(tflite, holes)
	var restBefore []byte
	if base != nil {
		restBefore = skeleton(base, before(holes))
	}
	list := describe(holes)
	body := binary.AppendUvarint(nil, uint64(len(holes)))
	body = binary.AppendUvarint(body, uint64(len(list)))
	body = appendCoded(body, p.plain(list, 1, 0))
	tables := p.smallest(rest, restBefore, 1, 0)
	body = appendCoded(body, tables)
	for _, h := range holes {
		body = append(body, h.data...)
	}
	packed := seal(tflite, base, body)
	parts = append(parts, Part{Bytes: len(rest), Packed: len(packed) - sum(parts), Form: formNames[tables.form]})
	return packed, parts, nil
}

func placesOf(tflite []byte) ([]model.Place, error) {
	m, err := model.Read(tflite)
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(m.Places(), func(p model.Place) bool { return p.Size < least })
	return list[:min(len(list), most)], nil
}

func holeOf(p model.Place) hole {
	h := hole{at: p.Offset, size: p.Size, width: 1}
	if w := p.Tensor.Type.Bits() / 8; (w == 2 || w == 4) && p.Size%w == 0 {
		h.width = w
	}
	// A row is what makes one output: all but the first dimension, or of a
	// depthwise filter, whose first is 1, the last.
	if s, n := p.Tensor.Shape, p.Size/h.width; len(s) > 1 && p.Tensor.Elements() == n && s[0] > 0 {
		if h.row = n / s[0]; s[0] == 1 {
			h.row = s[len(s)-1]
		}
	}
	return h
}

// match gives for each constant the one that it was in the base: of its name
// and size, or in its place and of its size; nil where there is none.
func match(places, old []model.Place) []*model.Place {
	out := make([]*model.Place, len(places))
	taken := make([]bool, len(old))
	for _, byName := range []bool{true, false} {
		for i, p := range places {
			if out[i] != nil {
				continue
			}
			for k, o := range old {
				if !taken[k] && o.Size == p.Size && (byName && o.Tensor.Name == p.Tensor.Name || !byName && k == i) {
					out[i], taken[k] = &old[k], true
					break
				}
			}
		}
	}
	return out
}

// order gives the indexes of holes by size.
func order(holes []hole) []int {
	list := make([]int, len(holes))
	for i := range list {
		list[i] = i
	}
	slices.SortStableFunc(list, func(a, b int) int { return cmp.Compare(holes[a].size, holes[b].size) })
	return list
}

// before gives the holes of the base file.
func before(holes []hole) []hole {
	var out []hole
	for _, h := range holes {
		if h.before >= 0 {
			out = append(out, hole{at: h.before, size: h.size})
		}
	}
	slices.SortFunc(out, func(a, b hole) int { return cmp.Compare(a.at, b.at) })
	return out
}

// skeleton is a file without its holes, which stand in rising order.
func skeleton(file []byte, holes []hole) []byte {
	out, at := make([]byte, 0, len(file)), 0
	for _, h := range holes {
		out = append(out, file[at:h.at]...)
		at = h.at + h.size
	}
	return append(out, file[at:]...)
}

// describe writes the list of the holes.
func describe(holes []hole) []byte {
	var out []byte
	at := 0
	for _, h := range holes {
		base := uint64(0)
		if d := h.before - h.at; h.before >= 0 {
			base = 1 + uint64(d<<1^d>>63) // small numbers for small distances of either sign
		}
		for _, v := range []uint64{uint64(h.at - at), uint64(h.size), uint64(h.form)<<2 | uint64(bits.Len(uint(h.width))-1), uint64(h.row), base, uint64(len(h.data))} {
			out = binary.AppendUvarint(out, v)
		}
		at = h.at + h.size
	}
	return out
}

func appendCoded(out []byte, c coded) []byte {
	out = append(out, byte(c.form))
	out = binary.AppendUvarint(out, uint64(len(c.data)))
	return append(out, c.data...)
}

// seal puts the header in front and zeros behind, where they are needed.
func seal(tflite, base, body []byte) []byte {
	sum := sha256.Sum256(tflite)
	head := append([]byte(magic+"\x00\x00\x00\x00"), sum[:]...)
	if base == nil {
		head = append(head, 0)
	} else {
		sum := sha256.Sum256(base)
		head = append(append(head, 1), sum[:]...)
	}
	head = binary.AppendUvarint(head, uint64(len(tflite)))
	zeros := max(0, (len(tflite)-floor-2*len(base)+ratio-1)/ratio-len(head)-len(body))
	head = binary.AppendUvarint(head, uint64(zeros))
	packed := slices.Concat(head, body, make([]byte, zeros))
	stamp(packed)
	return packed
}

// stamp writes the CRC.
func stamp(packed []byte) {
	binary.BigEndian.PutUint32(packed[crcAt:], crc32.Checksum(packed[contentAt:], castagnoli))
}

func sum(parts []Part) int {
	n := 0
	for _, p := range parts {
		n += p.Packed
	}
	return n
}

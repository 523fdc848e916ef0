package sensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unsafe"
)

// number reads one number of the raw forms at b, which is long enough.
type number struct {
	size      int
	read      func(b []byte) float64
	float32LE bool
}

// rawNumber knows f16 f32 f64, and i and u of 8, 16, 24 ... 64 bits, each with
// le or be behind it (not needed at 8 bits).
func rawNumber(name string) (number, error) {
	kind, order := name, ""
	if strings.HasSuffix(name, "le") || strings.HasSuffix(name, "be") {
		kind, order = name[:len(name)-2], name[len(name)-2:]
	}
	bits, err := strconv.Atoi(strings.TrimLeft(kind, "fiu"))
	if err != nil || len(kind) < 2 || strings.TrimLeft(kind[1:], "0123456789") != "" {
		return number{}, fmt.Errorf("%q is no number form such as f32le, i16be, u8", name)
	}
	size := bits / 8
	float := kind[0] == 'f'
	if bits != 8*size || size < 1 || size > 8 || float && size != 2 && size != 4 && size != 8 {
		return number{}, fmt.Errorf("%q: there is no number of %d bits", name, bits)
	}
	if order == "" && size > 1 {
		return number{}, fmt.Errorf("%q: which byte comes first? %sle or %sbe", name, kind, kind)
	}
	big := order == "be"
	unsigned := func(b []byte) (v uint64) {
		if big {
			for i := range size {
				v = v<<8 | uint64(b[i])
			}
			return v
		}
		for i := size - 1; i >= 0; i-- {
			v = v<<8 | uint64(b[i])
		}
		return v
	}
	switch {
	case kind == "f32" && !big:
		return number{size: 4, float32LE: true}, nil
	case kind == "f32":
		return number{size: 4, read: func(b []byte) float64 { return float64(math.Float32frombits(binary.BigEndian.Uint32(b))) }}, nil
	case kind == "f16":
		return number{size: 2, read: func(b []byte) float64 { return half(uint16(unsigned(b))) }}, nil
	case kind == "f64":
		return number{size: 8, read: func(b []byte) float64 { return math.Float64frombits(unsigned(b)) }}, nil
	case kind[0] == 'u':
		return number{size: size, read: func(b []byte) float64 { return float64(unsigned(b)) }}, nil
	case kind[0] == 'i':
		shift := 64 - 8*size
		return number{size: size, read: func(b []byte) float64 { return float64(int64(unsigned(b)<<shift) >> shift) }}, nil
	}
	return number{}, fmt.Errorf("%q is no number form such as f32le, i16be, u8", name)
}

// half is a 16-bit float of IEEE 754.
func half(bits uint16) float64 {
	v := float64(bits & 0x3ff)
	switch e := int(bits>>10) & 31; {
	case e == 31 && v == 0:
		v = math.Inf(1)
	case e == 31:
		v = math.NaN()
	case e == 0:
		v = math.Ldexp(v, -24)
	default:
		v = math.Ldexp(v+1024, e-25)
	}
	if bits>>15 != 0 {
		return -v
	}
	return v
}

// rawDecoder reads a payload that is nothing but numbers.
type rawDecoder struct{ n number }

func (d rawDecoder) Names() []string { return nil }

func (d rawDecoder) Decode(payload []byte, s *Sample) error {
	if len(payload) == 0 || len(payload)%d.n.size != 0 {
		return &Error{wrongLength, fmt.Sprintf("%d bytes are not a whole number of %d-byte numbers", len(payload), d.n.size)}
	}
	s.Values = slices.Grow(s.Values, len(payload)/d.n.size)[:len(payload)/d.n.size]
	if d.n.float32LE { // what most models take: without a call for each
		for i := range s.Values {
			s.Values[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(payload[4*i:])))
		}
	} else {
		for i := range s.Values {
			s.Values[i] = d.n.read(payload[i*d.n.size:])
		}
	}
	for i, v := range s.Values {
		if v-v != 0 {
			return &Error{notANumber, fmt.Sprintf("number %d is %v", i, v)}
		}
	}
	return nil
}

// tensorDecoder hands the bytes on as they stand.
type tensorDecoder struct{}

func (tensorDecoder) Names() []string { return nil }

func (tensorDecoder) Decode(payload []byte, s *Sample) error {
	if len(payload) == 0 {
		return &Error{wrongLength, "the payload is empty"}
	}
	s.Bytes = payload
	return nil
}

// numberDecoder reads one number as text.
type numberDecoder struct{}

func (numberDecoder) Names() []string { return []string{"value"} }

func (numberDecoder) Decode(payload []byte, s *Sample) error {
	v, err := parseNumber(payload)
	if err != nil {
		return err
	}
	s.Values = append(s.Values, v)
	return nil
}

// parseNumber reads a finite number; true and ON count as 1, false and OFF as
// 0, as switches say it.
func parseNumber(b []byte) (float64, error) {
	text := strings.TrimSpace(unsafe.String(unsafe.SliceData(b), len(b)))
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		switch {
		case strings.EqualFold(text, "true"), strings.EqualFold(text, "on"):
			return 1, nil
		case strings.EqualFold(text, "false"), strings.EqualFold(text, "off"):
			return 0, nil
		}
	}
	if err != nil || v-v != 0 {
		return 0, &Error{notANumber, fmt.Sprintf("%q is no number", short(text))}
	}
	return v, nil
}

// short is a payload's text for an error line.
func short(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return strings.Clone(s)
}

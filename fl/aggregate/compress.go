package aggregate

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Kinds of encodings: the first byte of what Encode gives. Behind it stands the
// number of weights as a uvarint, then what the kind has.
const (
	formNone = 1 + iota
	formInt8
	formInt4
	formTopK
	formTopKInt8
)

// Validate says what is wrong, beginning with the field's name.
func (c Compression) Validate() error {
	topk := c.Kind == "topk" || c.Kind == "topk-int8"
	switch {
	case !slices.Contains(compressions(), c.Kind):
		return fmt.Errorf("compression.kind: %q is none of %v", c.Kind, compressions())
	case c.Share == 0:
	case !topk:
		return fmt.Errorf("compression.share: %s has no use for it; leave it out", c.Kind)
	case !(c.Share > 0 && c.Share <= 1):
		return fmt.Errorf("compression.share: %v is not between 0 and 1", c.Share)
	}
	return nil
}

// Suits says why a compression and a strategy do not go together that are each
// right.
func (c Compression) Suits(s Config) error {
	sparse := c.Kind == "topk" || c.Kind == "topk-int8"
	if sparse && c.share() < 0.5 && (s.Kind == "median" || s.Kind == "trimmed-mean") {
		return fmt.Errorf("compression.kind: %s has most participants say 0 of a weight, and %s would follow them: take int8 or int4", c.Kind, s.Kind)
	}
	return nil
}

func compressions() []string { return []string{"none", "int8", "int4", "topk", "topk-int8"} }

// Encode makes delta small for its way. residual is what was left over the time
// before, nil for nothing: it is added first. What is not sent now comes back
// in left (nil where the kind leaves nothing), to be given as residual the next
// time. seed rules the rounding of int8 and int4. An error names a list of
// another length, or a value that is not finite.
func Encode(c Compression, delta, residual []float32, seed uint64) (data []byte, left []float32, err error) {
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	wanted := delta
	if residual != nil {
		if len(residual) != len(delta) {
			return nil, nil, fmt.Errorf("an update of %d weights with a residual of %d", len(delta), len(residual))
		}
		wanted = make([]float32, len(delta))
		for i, v := range delta {
			wanted[i] = v + residual[i]
		}
	}
	if peak(wanted) >= infinite {
		return nil, nil, ErrNotFinite
	}
	head := func(form byte) []byte {
		b := append(make([]byte, 0, c.MaxBytes(len(wanted))), form)
		return binary.AppendUvarint(b, uint64(len(wanted)))
	}
	switch c.Kind {
	case "int8":
		return encodeRounded(head(formInt8), wanted, eight, byLot(seed)), nil, nil
	case "int4":
		return encodeRounded(head(formInt4), wanted, four, byLot(seed)), nil, nil
	case "topk":
		data, left = encodeTopK(head(formTopK), wanted, c.count(len(wanted)), false)
		return data, left, nil
	case "topk-int8":
		data, left = encodeTopK(head(formTopKInt8), wanted, c.count(len(wanted)), true)
		return data, left, nil
	default:
		return appendValues(head(formNone), wanted), nil, nil
	}
}

// MaxBytes is the most that Encode makes of n weights.
func (c Compression) MaxBytes(n int) int {
	const head = 1 + binary.MaxVarintLen64
	k := c.count(n)
	places := binary.MaxVarintLen64 + maxGapBytes(k, n)
	switch c.Kind {
	case "int8":
		return head + eight.bytes(n)
	case "int4":
		return head + four.bytes(n)
	case "topk":
		return head + places + 4*k
	case "topk-int8":
		return head + places + eight.bytes(k)
	}
	return head + 4*n
}

// Decode is what Encode made, of n weights: bit for bit the same on each
// machine. An error is ErrShape, ErrNotFinite or says what is damaged. It takes
// memory for n values and places at most, whatever data says.
func Decode(data []byte, n int) ([]float32, error) {
	x, err := decode(data, n)
	if err != nil {
		return nil, fmt.Errorf("compressed update: %w", err)
	}
	return x, nil
}

func decode(data []byte, n int) ([]float32, error) {
	r := &reader{data: data}
	form := r.bytes(1)
	if r.err != nil {
		return nil, r.err
	}
	if size := r.uvarint(); r.err == nil && (n < 0 || size != uint64(n)) {
		return nil, fmt.Errorf("%w: %d, the model has %d", ErrShape, size, n)
	}
	var x []float32
	switch form[0] {
	case formNone:
		x = r.values(n)
	case formInt8:
		x = decodeRounded(r, n, eight)
	case formInt4:
		x = decodeRounded(r, n, four)
	case formTopK:
		x = decodeTopK(r, n, false)
	case formTopKInt8:
		x = decodeTopK(r, n, true)
	default:
		return nil, fmt.Errorf("encoding %d is unknown", form[0])
	}
	if len(r.data) > 0 {
		r.fail("more follows after its end")
	}
	if r.err == nil && peak(x) >= infinite {
		return nil, fmt.Errorf("a value is not finite: %w", ErrNotFinite)
	}
	return x, r.err
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.fail("a number is cut")
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) float32() float32 {
	if b := r.bytes(4); b != nil {
		return math.Float32frombits(binary.LittleEndian.Uint32(b))
	}
	return 0
}

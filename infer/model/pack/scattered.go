package pack

import (
	"encoding/binary"
	"errors"
)

// looked is how many elements say which one is the most frequent.
const looked = 1 << 12

// scattered holds pruned weights that share no values: the most frequent
// element, 0 mostly, whether all contexts guess which elements are others, how
// many are, those bits, and the others in a form. It is nil where the most
// frequent one is no third of all.
func (p *packer) scattered(data []byte, width, row int) []byte {
	n := len(data) / width
	seen := min(n, looked)
	count := map[uint32]int{}
	for i := range seen {
		count[element(data, width, i*(n/seen))]++
	}
	most := uint32(0)
	for v, c := range count {
		if c > count[most] || c == count[most] && v < most {
			most = v
		}
	}
	if 3*count[most] < seen {
		return nil
	}
	mask := &listed{keys: []uint32{0, 1}, at: make([]uint16, n)}
	var others []byte
	for i := range n {
		if element(data, width, i) != most {
			mask.at[i] = 1
			mask.other++
			others = append(others, data[i*width:(i+1)*width]...)
		}
	}
	out := binary.LittleEndian.AppendUint32(nil, most)
	left := &p.left
	if out = append(out, 1); mask.steps() > p.left {
		left, out[4] = nil, 0
	}
	c := newWriter()
	if codeField(c, p.logistic, mask, nil, row, left) != nil {
		return nil
	}
	bits := c.finish()
	out = binary.AppendUvarint(out, uint64(mask.other))
	out = append(binary.AppendUvarint(out, uint64(len(bits))), bits...)
	rest := p.plain(others, width, 0)
	if rest.form >= scattered {
		return nil // one within another gains nothing
	}
	return append(append(out, byte(rest.form)), rest.data...)
}

func (u *unpacker) scattered(data []byte, size, width, row int) ([]byte, error) {
	r := &bytesReader{data: data}
	head := r.take(5)
	n := r.number(size / width)
	bits := r.take(r.number(len(data)))
	if r.err != nil || len(r.data) == 0 {
		return nil, errCut
	}
	f := form(r.data[0])
	if size%width != 0 || f >= scattered {
		return nil, errors.New("its scattered elements have a form that there is not")
	}
	mask := &listed{keys: []uint32{0, 1}, at: make([]uint16, size/width)}
	left := &u.left
	if head[4] == 0 {
		left = nil
	}
	if err := codeField(newReader(bits), u.logistic, mask, nil, row, left); err != nil {
		return nil, err
	}
	others, err := u.bytes(coded{f, r.data[1:]}, nil, n*width, width, 0)
	if err != nil {
		return nil, err
	}
	out := make([]byte, size)
	for i, is := range mask.at {
		if is == 0 {
			setElement(out, width, i, binary.LittleEndian.Uint32(head))
			continue
		}
		if len(others) == 0 {
			return nil, errCut
		}
		copy(out[i*width:], others[:width])
		others = others[width:]
	}
	if len(others) > 0 {
		return nil, errors.New("there is more than its elements")
	}
	return out, nil
}

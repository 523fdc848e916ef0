package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// form is how the bytes of a constant are held.
type form byte

const (
	raw       form = iota
	zipped         // zstd
	symbols        // a list of values, and indexes into it under all contexts
	quick          // the same under one context, for what is long
	text           // as bytes that follow one another
	planes         // all first bytes of the elements, all second ones, each in a form
	scattered      // which elements are not the most frequent one, and those in a form
	same           // as in the base
	changed        // symbols, with the base's indexes among the contexts
	differs        // what is other than in the base, in a form
	copied         // zstd that may copy from the base, which may be of another length
	forms
)

var formNames = [forms]string{"raw", "zstd", "codebook", "codebook", "text", "planes", "scattered", "unchanged", "changed indexes", "difference", "zstd beside the base"}

var errCut = errors.New("it ends too early")

// patient is how many bits of a file may be guessed under all contexts, some
// 100 ns each; beyond it one has to do.
const patient = 6 << 20

// packer chooses the smallest form of each constant.
type packer struct {
	*logistic
	zip  *zstd.Encoder
	left int // of patient
}

// coded is a constant's bytes in a form: what unpacker.bytes takes.
type coded struct {
	form form
	data []byte
}

// smallest takes the bytes of one constant, or of the rest of a file: elements of
// width bytes in rows of row, 0 where there are none. base is what it was before,
// nil where there was none; of another size for the rest of a file alone.
func (p *packer) smallest(data, base []byte, width, row int) coded {
	if base != nil && slices.Equal(data, base) {
		return coded{form: same}
	}
	best := p.plain(data, width, row)
	try := func(f form, d []byte) {
		if len(d) < len(best.data) {
			best = coded{f, d}
		}
	}
	if base == nil {
		return best
	}
	if len(base) != len(data) {
		if d, err := zipBeside(data, base); err == nil {
			try(copied, d)
		}
		return best
	}
	l, ok := list(data, width)
	if b, few := list(base, width); ok && few && l.steps() <= p.left {
		c := newWriter()
		if codeList(c, width, l, b) == nil && codeField(c, p.logistic, l, b, row, &p.left) == nil {
			try(changed, c.finish())
		}
	}
	d := p.plain(difference(data, base, width), width, row)
	try(differs, append([]byte{byte(d.form)}, d.data...))
	return best
}

// plain is smallest without a base.
func (p *packer) plain(data []byte, width, row int) coded {
	best := coded{raw, data}
	if even(data) {
		return best
	}
	try := func(f form, d []byte) {
		if len(d) < len(best.data) {
			best = coded{f, d}
		}
	}
	try(zipped, p.zip.EncodeAll(data, nil))
	l, few := list(data, width)
	if few {
		f, left := quick, (*int)(nil)
		if l.steps() <= p.left {
			f, left = symbols, &p.left
		}
		c := newWriter()
		if codeList(c, width, l, nil) == nil && codeField(c, p.logistic, l, nil, row, left) == nil {
			try(f, c.finish())
		}
	}
	if row == 0 && width == 1 && 8*len(data) <= p.left {
		c := newWriter()
		if codeText(c, p.logistic, slices.Clone(data), &p.left) == nil {
			try(text, c.finish())
		}
	}
	// A list of values that is nearly as long as the weights themselves says
	// that they are not shared: what is alike are their signs and exponents.
	if width > 1 && (!few || 4*len(l.keys) > l.other) {
		var all []byte
		few := min(p.left, 1<<16) // neighbours say little here
		q := packer{p.logistic, p.zip, few}
		for _, plane := range split(data, width) {
			c := q.plain(plane, 1, row)
			all = append(all, byte(c.form))
			all = binary.AppendUvarint(all, uint64(len(c.data)))
			all = append(all, c.data...)
		}
		p.left -= few - q.left
		try(planes, all)
		if d := p.scattered(data, width, row); d != nil {
			try(scattered, d)
		}
	}
	return best
}

// even says whether bytes look like noise, which no form makes smaller.
func even(data []byte) bool {
	if len(data) < 1<<14 {
		return false
	}
	var count [256]int
	for _, b := range data {
		count[b]++
	}
	entropy := 0.0
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(data))
			entropy -= p * math.Log2(p)
		}
	}
	return entropy > 7.99
}

func split(data []byte, width int) [][]byte {
	n := len(data) / width
	out := make([][]byte, width)
	for k := range out {
		out[k] = make([]byte, n)
		for i := range out[k] {
			out[k][i] = data[i*width+k]
		}
	}
	return out
}

func join(parts [][]byte, width int) []byte {
	out := make([]byte, width*len(parts[0]))
	for k, p := range parts {
		for i, b := range p {
			out[i*width+k] = b
		}
	}
	return out
}

// difference is what undo takes back: of bytes a minus b, of longer elements
// the bits that differ, since floats that are near have the same first ones.
func difference(a, b []byte, width int) []byte {
	out := make([]byte, len(a))
	for i := range a {
		if out[i] = a[i] ^ b[i]; width == 1 {
			out[i] = a[i] - b[i]
		}
	}
	return out
}

func undo(d, b []byte, width int) []byte {
	for i := range d {
		if width == 1 {
			d[i] += b[i]
		} else {
			d[i] ^= b[i]
		}
	}
	return d
}

// unpacker reads what packer wrote.
type unpacker struct {
	*logistic
	zip  *zstd.Decoder
	left int // of patient
}

// bytes gives the size bytes of a constant, of which base has as many where
// the form needs one.
func (u *unpacker) bytes(c coded, base []byte, size, width, row int) ([]byte, error) {
	if c.form >= same && c.form != copied && len(base) != size {
		return nil, errors.New("it differs from a base that has no such constant")
	}
	switch c.form {
	case raw:
		if len(c.data) != size {
			return nil, errCut
		}
		return c.data, nil
	case zipped:
		return u.unzip(c.data, size)
	case symbols, quick, changed:
		if size%width != 0 {
			return nil, errors.New("its size is no number of elements")
		}
		l := &listed{at: make([]uint16, size/width)}
		var b *listed
		if c.form == changed {
			var few bool
			if b, few = list(base, width); !few {
				return nil, errors.New("it differs from a base that has too many values")
			}
		}
		r := newReader(c.data)
		if err := codeList(r, width, l, b); err != nil {
			return nil, err
		}
		left := &u.left
		if c.form == quick {
			left = nil
		}
		if err := codeField(r, u.logistic, l, b, row, left); err != nil {
			return nil, err
		}
		return l.bytes(width), nil
	case text:
		out := make([]byte, size)
		return out, codeText(newReader(c.data), u.logistic, out, &u.left)
	case planes:
		return u.planes(c.data, size, width, row)
	case scattered:
		return u.scattered(c.data, size, width, row)
	case same:
		return base, nil
	case differs:
		if len(c.data) == 0 || form(c.data[0]) >= same {
			return nil, errors.New("it differs from its base in a form that there is not")
		}
		d, err := u.bytes(coded{form(c.data[0]), c.data[1:]}, nil, size, width, row)
		if err != nil {
			return nil, err
		}
		return undo(slices.Clone(d), base, width), nil
	case copied:
		if base == nil {
			return nil, errors.New("it builds on a base that is not there")
		}
		return unzipBeside(c.data, base, size)
	}
	return nil, fmt.Errorf("there is no form %d", c.form)
}

// zipBeside is zstd with base as its dictionary.
func zipBeside(data, base []byte) ([]byte, error) {
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1), zstd.WithEncoderDictRaw(1, base))
	if err != nil {
		return nil, err
	}
	defer zip.Close()
	return zip.EncodeAll(data, nil), nil
}

func unzipBeside(data, base []byte, size int) ([]byte, error) {
	zip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(max(size, 1<<20))), zstd.WithDecoderLowmem(true), zstd.WithDecoderDictRaw(1, base))
	if err != nil {
		return nil, err
	}
	defer zip.Close()
	return (&unpacker{zip: zip}).unzip(data, size)
}

func (u *unpacker) planes(data []byte, size, width, row int) ([]byte, error) {
	if width < 2 || size%width != 0 {
		return nil, errors.New("its size is no number of elements")
	}
	var parts [][]byte
	for range width {
		if len(data) == 0 || form(data[0]) >= planes {
			return nil, errors.New("a plane has a form that there is not")
		}
		f := form(data[0])
		n, k := binary.Uvarint(data[1:])
		if k < 1 || n > uint64(len(data)-1-k) {
			return nil, errCut
		}
		part, err := u.bytes(coded{f, data[1+k : 1+k+int(n)]}, nil, size/width, 1, row)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		data = data[1+k+int(n):]
	}
	if len(data) > 0 {
		return nil, errors.New("there is more than its planes")
	}
	return join(parts, width), nil
}

func (u *unpacker) unzip(data []byte, size int) ([]byte, error) {
	out, err := u.zip.DecodeAll(data, make([]byte, 0, size))
	if err != nil {
		return nil, err
	}
	if len(out) != size {
		return nil, errCut
	}
	return out, nil
}

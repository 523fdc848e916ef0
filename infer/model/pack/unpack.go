package pack

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/klauspost/compress/zstd"
)

// ErrFormat is wrapped by every error of Unpack about the packed bytes.
var ErrFormat = errors.New("not a valid packed model")

// ErrNoBase is wrapped where the older version that a packed model builds on
// is not given, or is another.
var ErrNoBase = errors.New("the model that it builds on is missing")

// Header is what a packed model says of itself.
type Header struct {
	Content [32]byte // SHA-256 of the .tflite
	Size    int      // of the .tflite
	Base    *[32]byte
	zeros   int
	body    []byte
}

// ReadHeader reads and checks a packed model's header, and that the bytes are
// as they were written.
func ReadHeader(packed []byte) (*Header, error) {
	h, err := readHeader(packed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return h, nil
}

func readHeader(packed []byte) (*Header, error) {
	if !Is(packed) {
		return nil, fmt.Errorf("it does not begin with %s", magic[:4])
	}
	if len(packed) < contentAt+33 {
		return nil, errCut
	}
	if v := packed[4]; v != magic[4] {
		return nil, fmt.Errorf("it is of version %d; this program knows %d", v, magic[4])
	}
	if crc32.Checksum(packed[contentAt:], castagnoli) != binary.BigEndian.Uint32(packed[crcAt:]) {
		return nil, errors.New("it is cut or damaged: its check sum is wrong")
	}
	h := &Header{Content: [32]byte(packed[contentAt:])}
	r := bytesReader{data: packed[contentAt+32:]}
	switch r.number(1) {
	case 0:
	case 1:
		if b := r.take(32); r.err == nil {
			h.Base = (*[32]byte)(b)
		}
	default:
		r.err = errors.New("it builds on more than one model")
	}
	h.Size = r.number(math.MaxInt32)
	h.zeros = r.number(math.MaxInt32)
	h.body = r.data
	return h, r.err
}

// Unpack gives back the .tflite file that was packed, to the last bit. base
// gives the bytes of the model with a SHA-256, and is asked where the packed
// one builds on an older version; nil: there are none. Damaged bytes give an
// error, never another model; the memory that is taken is bounded by the
// lengths of packed and base.
func Unpack(packed []byte, base func(sha256 [32]byte) ([]byte, error)) ([]byte, error) {
	h, err := ReadHeader(packed)
	if err != nil {
		return nil, err
	}
	var old []byte
	if h.Base != nil {
		if base == nil {
			return nil, fmt.Errorf("%w: it has SHA-256 %x", ErrNoBase, *h.Base)
		}
		if old, err = base(*h.Base); err != nil {
			return nil, err
		}
		if got := sha256.Sum256(old); got != *h.Base {
			return nil, fmt.Errorf("%w: it has SHA-256 %x, the one given %x", ErrNoBase, *h.Base, got)
		}
	}
	if h.Size > floor+ratio*len(packed)+2*len(old) {
		return nil, fmt.Errorf("%w: it claims %d bytes, too many for its length", ErrFormat, h.Size)
	}
	out, err := unpack(h, old)
	if err == nil && sha256.Sum256(out) != h.Content {
		err = errors.New("what comes out has another SHA-256")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return out, nil
}

func unpack(h *Header, old []byte) ([]byte, error) {
	zip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(max(h.Size, 1<<20))), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	defer zip.Close()
	u := &unpacker{logistic: newLogistic(), zip: zip, left: patient}
	r := &bytesReader{data: h.body}
	n := r.number(min(h.Size/least, most))
	size := r.number(n * 6 * binary.MaxVarintLen32)
	c := r.coded()
	if r.err != nil {
		return nil, r.err
	}
	list, err := u.bytes(c, nil, size, 1, 0)
	if err != nil {
		return nil, fmt.Errorf("the list of constants: %w", err)
	}
	holes, err := readHoles(list, n, h.Size, len(old))
	if err != nil {
		return nil, fmt.Errorf("the list of constants: %w", err)
	}
	var restOld []byte
	if was := before(holes); len(was) > 0 || h.Base != nil {
		at := 0
		for _, w := range was {
			if w.at < at {
				return nil, errors.New("two constants build on the same bytes")
			}
			at = w.at + w.size
		}
		restOld = skeleton(old, was)
	}
	left := h.Size
	for _, w := range holes {
		left -= w.size
	}
	if c = r.coded(); r.err != nil {
		return nil, r.err
	}
	rest, err := u.bytes(c, restOld, left, 1, 0)
	if err != nil {
		return nil, fmt.Errorf("the tables: %w", err)
	}
	out := make([]byte, 0, h.Size)
	for i, w := range holes {
		gap := w.at - len(out)
		out, rest = append(out, rest[:gap]...), rest[gap:]
		var b []byte
		if w.before >= 0 {
			b = old[w.before : w.before+w.size]
		}
		if w.data = r.take(w.length); r.err != nil {
			return nil, r.err
		}
		data, err := u.bytes(w.coded, b, w.size, w.width, w.row)
		if err != nil {
			return nil, fmt.Errorf("constant %d of %d: %w", i, len(holes), err)
		}
		out = append(out, data...)
	}
	for _, z := range r.data {
		if z != 0 {
			return nil, errors.New("there is more than its constants")
		}
	}
	if len(r.data) != h.zeros {
		return nil, errCut
	}
	return append(out, rest...), nil
}

// readHoles reads what describe wrote: n holes of a file of size bytes. What a
// hole's data will be has its length.
func readHoles(list []byte, n, size, old int) ([]hole, error) {
	r := &bytesReader{data: list}
	holes := make([]hole, 0, min(n, len(list)))
	end := 0
	for range n {
		h := hole{before: -1}
		h.at = end + r.number(size-end)
		h.size = r.number(size - h.at)
		kind := r.number(int(forms)<<2 | 3)
		h.form, h.width = form(kind>>2), 1<<(kind&3)
		h.row = r.number(h.size / min(h.width, 4))
		if base := r.number(math.MaxInt32 << 1); base > 0 {
			d := base - 1
			h.before = h.at + (d>>1 ^ -(d & 1))
			if h.before < 0 || h.before > old-h.size {
				return nil, errors.New("it names bytes that its base does not have")
			}
		}
		h.length = r.number(math.MaxInt32)
		if r.err != nil {
			return nil, r.err
		}
		if h.width > 4 || h.size < least {
			return nil, errors.New("it has a constant that there cannot be")
		}
		end = h.at + h.size
		holes = append(holes, h)
	}
	if len(r.data) > 0 {
		return nil, errors.New("it is longer than it says")
	}
	return holes, nil
}

// bytesReader takes bytes and numbers one after the other; its first error
// stays.
type bytesReader struct {
	data []byte
	err  error
}

func (r *bytesReader) take(n int) []byte {
	if r.err != nil || n > len(r.data) {
		if r.err == nil {
			r.err = errCut
		}
		return nil
	}
	b := r.data[:n:n]
	r.data = r.data[n:]
	return b
}

// number reads one that is at most top.
func (r *bytesReader) number(top int) int {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.data)
	if n < 1 {
		r.err = errCut
		return 0
	}
	if v > uint64(max(top, 0)) {
		r.err = fmt.Errorf("it claims %d where there can be %d at most", v, top)
		return 0
	}
	r.data = r.data[n:]
	return int(v)
}

func (r *bytesReader) coded() coded {
	f := r.number(int(forms) - 1)
	return coded{form(f), r.take(r.number(math.MaxInt32))}
}

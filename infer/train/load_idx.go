package train

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// LoadIDX reads pictures and their labels as MNIST has them: two IDX files,
// gzipped or not. Pictures are [height, width, 1]; classes are named by their
// numbers.
func LoadIDX(pictures, labels string) (*Dataset, error) {
	shape, pixels, err := readIDX(pictures)
	if err != nil {
		return nil, err
	}
	if len(shape) != 3 && len(shape) != 4 {
		return nil, fmt.Errorf("%s: holds %v, pictures are [n, height, width] or [n, height, width, channels]", pictures, shape)
	}
	of, marks, err := readIDX(labels)
	if err != nil {
		return nil, err
	}
	if len(of) != 1 || of[0] != shape[0] {
		return nil, fmt.Errorf("%s: holds %v labels for %d pictures", labels, of, shape[0])
	}
	d := &Dataset{Name: pictures, Shape: Shape{shape[1], shape[2], 1}, Pixels: pixels}
	if len(shape) == 4 {
		d.Shape[2] = shape[3]
	}
	top := 0
	for _, m := range marks {
		d.Labels = append(d.Labels, int32(m))
		top = max(top, int(m))
	}
	for c := range top + 1 {
		d.Classes = append(d.Classes, strconv.Itoa(c))
	}
	return d, d.Check()
}

// maxIDX is the most bytes that one IDX file may hold.
const maxIDX = 1 << 31

// readIDX reads an IDX file of bytes: two zeros, the type 8, the number of
// dimensions, their sizes big-endian, the bytes.
func readIDX(path string) (shape []int, data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	shape, data, err = parseIDX(f)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return shape, data, nil
}

func parseIDX(f io.Reader) (shape []int, data []byte, err error) {
	r := bufio.NewReaderSize(f, 1<<16)
	if magic, err := r.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, unzipped(err)
		}
		r = bufio.NewReaderSize(z, 1<<16)
	}
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil || head[0] != 0 || head[1] != 0 {
		return nil, nil, errors.New("is no IDX file (two zeros, 8, the number of dimensions; gzipped or not)")
	}
	if head[2] != 8 {
		return nil, nil, fmt.Errorf("holds values of type %#x, only bytes (8) are read", head[2])
	}
	if head[3] < 1 || head[3] > 4 {
		return nil, nil, fmt.Errorf("has %d dimensions", head[3])
	}
	total := 1
	for range head[3] {
		var n uint32
		if err := binary.Read(r, binary.BigEndian, &n); err != nil {
			return nil, nil, errors.New("ends in its head")
		}
		if n == 0 || int64(n) > maxIDX/int64(total) {
			return nil, nil, fmt.Errorf("claims a dimension of %d", n)
		}
		total *= int(n)
		shape = append(shape, int(n))
	}
	// Read as it comes: a small file may claim much.
	data, err = io.ReadAll(io.LimitReader(r, int64(total)))
	if err != nil {
		return nil, nil, unzipped(err)
	}
	if len(data) != total {
		return nil, nil, fmt.Errorf("holds %d of %d bytes: it was cut short, fetch it again", len(data), total)
	}
	// Its end is read too: with it gzip tells whether all was right.
	if _, err := r.ReadByte(); err == nil {
		return nil, nil, fmt.Errorf("holds more than the %d bytes of its head", total)
	} else if !errors.Is(err, io.EOF) {
		return nil, nil, unzipped(err)
	}
	return shape, data, nil
}

// unzipped says what an error of gzip means for who has the file.
func unzipped(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("its gzip was cut short, fetch it again")
	}
	if errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) {
		return errors.New("its gzip is damaged, fetch it again")
	}
	var corrupt flate.CorruptInputError
	if errors.As(err, &corrupt) {
		return errors.New("its gzip is damaged, fetch it again")
	}
	return err
}

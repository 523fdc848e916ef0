package infer

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrOutOfRange is wrapped where an input holds an index that leads outside
// the table that the model picks from, a word id outside its vocabulary. The
// runtime would read other memory by it.
var ErrOutOfRange = errors.New("index out of range")

// checkIndexes holds every index against the number of rows it picks from.
func checkIndexes(in []Tensor, limits []int) error {
	for k, limit := range limits {
		if limit == 0 {
			continue
		}
		t := &in[k]
		for i := range t.Len() {
			var v int64
			switch t.Type {
			case Int32:
				v = int64(int32(binary.LittleEndian.Uint32(t.Data[4*i:])))
			case Int64:
				v = int64(binary.LittleEndian.Uint64(t.Data[8*i:]))
			default:
				f := t.Float(i) // cast to an integer by the model
				if !(f > -1 && f < float64(limit)) {
					return fmt.Errorf("%w: element %d of input %d is %v, the model has rows 0 to %d", ErrOutOfRange, i, k, f, limit-1)
				}
				continue
			}
			if v < 0 || v >= int64(limit) {
				return fmt.Errorf("%w: element %d of input %d is %d, the model has rows 0 to %d", ErrOutOfRange, i, k, v, limit-1)
			}
		}
	}
	return nil
}

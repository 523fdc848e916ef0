package pack

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
)

// maxSymbols is how many different values a tensor may have to be coded as
// indexes into a list of them.
const maxSymbols = 4096

// Values are compared as numbers, so that neighbours in the list are alike:
// key gives the bits of a number in an order of whole numbers, unkey takes
// them back. Four and two bytes are held for floats, one for an int8.
func key(width int, v uint32) uint32 {
	top := uint32(1) << (8*width - 1)
	if width > 1 && v&top != 0 {
		return ^v & (top<<1 - 1)
	}
	return v ^ top
}

func unkey(width int, k uint32) uint32 {
	top := uint32(1) << (8*width - 1)
	if width > 1 && k&top == 0 {
		return ^k & (top<<1 - 1)
	}
	return k ^ top
}

func element(data []byte, width, i int) uint32 {
	switch width {
	case 1:
		return uint32(data[i])
	case 2:
		return uint32(binary.LittleEndian.Uint16(data[2*i:]))
	}
	return binary.LittleEndian.Uint32(data[4*i:])
}

func setElement(data []byte, width, i int, v uint32) {
	switch width {
	case 1:
		data[i] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(data[2*i:], uint16(v))
	default:
		binary.LittleEndian.PutUint32(data[4*i:], v)
	}
}

// listed is a tensor as indexes into the list of its values.
type listed struct {
	keys  []uint32 // of the values, rising
	zero  int      // the index of the most frequent value, which is 0 in pruned weights
	at    []uint16 // by element
	other int      // how many are not the most frequent one
}

// list gives a tensor's values and indexes; false where there are too many.
func list(data []byte, width int) (*listed, bool) {
	n := len(data) / width
	count := map[uint32]int{}
	last, run := uint32(0), 0
	for i := range n {
		v := element(data, width, i)
		if v == last {
			run++
			continue
		}
		count[last] += run
		last, run = v, 1
		if len(count) > maxSymbols {
			return nil, false
		}
	}
	count[last] += run
	l := &listed{at: make([]uint16, n)}
	for v, n := range count {
		if n > 0 {
			l.keys = append(l.keys, key(width, v))
		}
	}
	if len(l.keys) > maxSymbols {
		return nil, false
	}
	slices.Sort(l.keys)
	index := make(map[uint32]uint16, len(l.keys))
	most := 0
	for i, k := range l.keys {
		v := unkey(width, k)
		index[v] = uint16(i)
		if count[v] > most {
			most, l.zero = count[v], i
		}
	}
	l.other = n - most
	for i := range l.at {
		l.at[i] = index[element(data, width, i)]
	}
	return l, true
}

// bytes writes the values that the indexes stand for.
func (l *listed) bytes(width int) []byte {
	out := make([]byte, width*len(l.at))
	for i, s := range l.at {
		setElement(out, width, i, unkey(width, l.keys[s]))
	}
	return out
}

// steps is about how many bits the model has to guess.
func (l *listed) steps() int { return len(l.at) + l.other*bits.Len(uint(len(l.keys))) }

// round is how many of the last bits are 0 in each of the values.
func (l *listed) round(width int) int {
	all := uint32(1) << (8*width - 1)
	for _, k := range l.keys {
		all |= unkey(width, k)
	}
	return bits.TrailingZeros32(all)
}

// rounded is the key that begins as high, of a value whose last bits are 0.
func rounded(width int, high uint32, round int) uint32 {
	k := high << round
	if top := uint32(1) << (8*width - 1); width > 1 && k&top == 0 {
		k |= 1<<round - 1
	}
	return k
}

// codeList codes the list of values: those of the base by their place there,
// the others by the distance to the one before. An int8 or a codebook that was
// kept costs next to nothing.
func codeList(c *coder, width int, l, base *listed) error {
	sizes, gaps, places := newLengths(), newLengths(), newLengths()
	n := int(sizes.code(c, uint32(len(l.keys))))
	l.zero = int(sizes.code(c, uint32(l.zero)))
	if n < 1 || n > maxSymbols || l.zero >= n {
		return errors.New("it claims a list of values that there cannot be")
	}
	if c.reading {
		l.keys = make([]uint32, n)
	}
	round := int(sizes.code(c, uint32(l.round(width))))
	if round >= 8*width {
		return errors.New("it claims rounder values than there are")
	}
	kept := [2]counter{unknown, unknown}
	top := uint32(1)<<(8*width-1)<<1 - 1 // the largest key
	before, next, was := uint32(0), 0, 1
	for i := range l.keys {
		place, have := 0, 0
		if base != nil {
			if !c.reading {
				var found bool
				if place, found = slices.BinarySearch(base.keys, l.keys[i]); found {
					have = 1
				}
			}
			p := &kept[was]
			have = c.bit(p.chance(), have)
			p.learn(have, 30)
			was = have
		}
		if have == 1 {
			place = next + int(places.code(c, uint32(place-next)))
			if place >= len(base.keys) {
				return errors.New("it names a value that its base does not have")
			}
			l.keys[i] = base.keys[place]
		} else {
			gap := gaps.code(c, l.keys[i]>>round-before>>round)
			l.keys[i] = rounded(width, before>>round+gap, round)
		}
		if l.keys[i] > top || i > 0 && l.keys[i] <= before {
			return errors.New("its list of values does not rise")
		}
		before = l.keys[i]
		if base != nil {
			next, _ = slices.BinarySearch(base.keys, before+1)
			if before == 1<<32-1 {
				next = len(base.keys)
			}
		}
		if c.cut() {
			return errCut
		}
	}
	return nil
}

// field codes the indexes of a tensor: for each first whether it is the most
// frequent value, then which of the others, bit by bit. What guesses: the
// neighbours in the row of row elements and in the row before, what the row and
// the column hold so far, and the same element of the base.
type field struct {
	l, base *listed
	row     int
	m       *mixer
	flags   uint32   // of the last elements: a 1 for each that is not the most frequent
	filled  []uint16 // by column: how many so far are not
	lastIn  []uint16 // by column: the last value that is not, its index + 1
	inRow   int
	last    [2]uint32
}

// codeField codes the indexes l.at, which reading fills in. It takes the bits
// that it guesses from left; without one it does with a single context.
func codeField(c *coder, t *logistic, l, base *listed, row int, left *int) error {
	fast := left == nil
	contexts := 4 * len(l.at)
	if fast {
		contexts = 512 + 8<<bits.Len(uint(len(l.keys)))
	}
	row = cmp.Or(row, len(l.at), 1)
	f := &field{l: l, base: base, row: row, m: newMixer(t, contexts, 64, fast), filled: make([]uint16, row), lastIn: make([]uint16, row)}
	wide := bits.Len(uint(len(l.keys) - 1))
	for i := range l.at {
		col := i % row
		if col == 0 {
			f.inRow = 0
		}
		s, err := f.one(c, i, col, wide)
		if err != nil {
			return err
		}
		l.at[i] = s
		f.flags <<= 1
		if int(s) != l.zero {
			f.flags |= 1
			f.inRow++
			f.filled[col] = min(f.filled[col]+1, 1<<16-2)
			f.lastIn[col] = s + 1
			f.last[1], f.last[0] = f.last[0], uint32(s)+1
		}
		if !fast {
			if *left--; f.flags&1 == 1 {
				*left -= wide
			}
			if *left < 0 {
				return errors.New("it has more values under all contexts than a file may have")
			}
		}
		if c.cut() {
			return errCut
		}
	}
	return nil
}

func (f *field) one(c *coder, i, col, wide int) (uint16, error) {
	l, row := f.l, i/f.row
	old := uint32(0) // the base's index + 1
	near := uint32(0)
	if f.base != nil {
		old = uint32(f.base.at[i]) + 1
		if int(f.base.at[i]) != f.base.zero {
			near = 1
		}
		near |= 2
	}
	up := func(back int) uint32 {
		if i >= back && int(l.at[i-back]) != l.zero {
			return 1
		}
		return 0
	}
	left := f.flags & 3
	around := left | up(f.row)<<2 | up(f.row-1)<<3 | up(f.row+1)<<4 | up(2*f.row)<<5
	if f.row == 1 {
		around = f.flags & 63
	}
	s := uint32(l.at[i])
	b := 0
	if int(s) != l.zero {
		b = 1
	}
	ctx := [inputs]uint32{around<<2 | near}
	if !f.m.fast {
		held := share(f.inRow, col)<<6 | share(int(f.filled[col]), row)<<1 | left&1<<12
		ctx = [inputs]uint32{ctx[0], uint32(col) << 2, f.flags & 0xfff << 2, held, uint32(row)<<2 | 1, old<<3 | near | 1<<20}
	}
	if b = f.m.code(c, &ctx, int(around&7|near<<3), b); b == 0 {
		return uint16(l.zero), nil
	}
	node := uint32(1)
	for bit := wide - 1; bit >= 0; bit-- {
		ctx[0] = 256 + node<<2 + near
		set := 0
		if !f.m.fast {
			tree := node<<14 | 1<<30
			ctx = [inputs]uint32{ctx[0], tree | f.last[0], tree | uint32(f.lastIn[col]), tree | uint32(row), tree | uint32(col), tree | old | near<<28}
			if set = 32 + min(wide-1-bit, 15); near != 0 {
				set += 16
			}
		}
		node = node<<1 | uint32(f.m.code(c, &ctx, set, int(s>>bit&1)))
	}
	if node -= 1 << wide; int(node) >= len(l.keys) {
		return 0, errors.New("it names a value that its list does not hold")
	}
	return uint16(node), nil
}

// share is n of of in 16 steps.
func share(n, of int) uint32 { return uint32((31*n + of) / (2*of + 1)) }

package pack

import "math/bits"

// coder is a binary arithmetic coder that writes, or one that reads what such
// a one wrote: whoever models the bits runs the same code both ways. All of it
// is whole numbers, so that every processor gives the same bytes.
type coder struct {
	reading bool
	lo, hi  uint32 // the interval that all bits so far have left
	data    []byte // written, or what is still to be read
	code    uint32 // reading: where in the interval the bits lead
	missing int    // reading: bytes behind the end that were asked for
}

func newWriter() *coder { return &coder{hi: 1<<32 - 1} }

func newReader(data []byte) *coder {
	c := &coder{reading: true, hi: 1<<32 - 1, data: data}
	for range 4 {
		c.code = c.code<<8 | uint32(c.next())
	}
	return c
}

// next takes zeros for what stands behind the end, as finish leaves them out.
func (c *coder) next() byte {
	if len(c.data) == 0 {
		c.missing++
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return b
}

// cut says whether more was read than was written: the data is damaged.
func (c *coder) cut() bool { return c.missing > 4 }

// bit codes b, which is 1 with the chance one/65536 (1 to 65535), and gives it
// back; reading it gives what was written, and b is not looked at.
func (c *coder) bit(one uint32, b int) int {
	mid := c.lo + uint32(uint64(c.hi-c.lo)*uint64(one)>>16)
	if c.reading {
		b = 0
		if c.code <= mid {
			b = 1
		}
	}
	if b == 1 {
		c.hi = mid
	} else {
		c.lo = mid + 1
	}
	for (c.lo^c.hi)>>24 == 0 {
		if c.reading {
			c.code = c.code<<8 | uint32(c.next())
		} else {
			c.data = append(c.data, byte(c.hi>>24))
		}
		c.lo, c.hi = c.lo<<8, c.hi<<8|255
	}
	return b
}

// finish gives all that was written: so many bytes that a number within the
// interval is told, zeros at its end left out.
func (c *coder) finish() []byte {
	for n := uint(8); ; n += 8 {
		if n > 32 {
			panic("an interval without a number")
		}
		v := c.hi >> (32 - n) << (32 - n)
		if v < c.lo {
			continue
		}
		for ; n > 0 && v != 0; n -= 8 {
			c.data = append(c.data, byte(v>>24))
			v <<= 8
		}
		return c.data
	}
}

// raw codes the lowest n bits of v, each as likely 0 as 1.
func (c *coder) raw(v uint32, n int) uint32 {
	var out uint32
	for i := n - 1; i >= 0; i-- {
		out = out<<1 | uint32(c.bit(1<<15, int(v>>i&1)))
	}
	return out
}

// counter is the chance of a 1 as the bits so far suggest it, 22 bits, and how
// many there were, 10 bits.
type counter uint32

const unknown counter = 1 << 31 // a half, and none seen

// chance is that of a 1 in 65536, never 0 and never all.
func (c counter) chance() uint32 { return min(max(uint32(c)>>16, 1), 65535) }

// rates are 1 / (n + 1.5) in 1/65536: how much the bit behind n others counts.
var rates = func() (r [limit + 1]int64) {
	for n := range r {
		r[n] = 2 << 16 / (2*int64(n) + 3)
	}
	return r
}()

// limit is how many bits a counter remembers: weights do not change their ways
// much between the beginning of a tensor and its end.
const limit = 255

// learn moves the chance towards b: by as much as one more among those seen,
// at most most of them.
func (c *counter) learn(b int, most int64) {
	n := int64(*c & 1023)
	p := int64(*c >> 10)
	p += (int64(b)*(1<<22-1) - p) * rates[n] >> 16
	if n < most {
		n++
	}
	*c = counter(p<<10 | n)
}

// lengths codes numbers of which small ones are likely: how many bits, by
// adaptive chances, and then the bits.
type lengths [64]counter

func newLengths() *lengths {
	var l lengths
	for i := range l {
		l[i] = unknown
	}
	return &l
}

func (l *lengths) code(c *coder, v uint32) uint32 {
	want, node := bits.Len32(v), 1
	for i := 5; i >= 0; i-- {
		p := &l[node]
		b := c.bit(p.chance(), want>>i&1)
		p.learn(b, 30)
		node = node<<1 | b
	}
	n := node - 64
	if n == 0 || n > 32 {
		return 0
	}
	return 1<<(n-1) | c.raw(v, n-1)
}

package fl

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// Collector puts bodies together from their parts, which may come in any order,
// more than once, and with a restart between them: each part is in a State
// before Add returns, loosely. Of one sender and kind there is one open body, the newest;
// of models one for each body. What a collector is given must have come through
// Open.
type Collector struct {
	st     State
	prefix string
	most   int // bytes of a body
	open   int // bodies at a time
	bodies map[string]*body
}

// body is one that is not whole yet, or whole and not forgotten.
type body struct {
	Header       // of its first part that came
	key    Hash  // of that
	size   int   // of its chunks
	have   []int // sorted
}

// NewCollector goes on with the parts that a State holds under names that begin
// with prefix: bodies of at most so many bytes, at most so many open at a time.
// Parts that are damaged are removed, and will be sent again.
func NewCollector(st State, prefix string, most, open int) (*Collector, error) {
	c := &Collector{st: st, prefix: prefix, most: most, open: open, bodies: map[string]*body{}}
	names, err := st.List(prefix)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p, err := c.read(name)
		if err != nil {
			return nil, err
		}
		b := (*body)(nil)
		if p != nil {
			b = c.bodies[bodyName(&p.Header)]
		}
		switch {
		case p == nil || name != c.name(&p.Header) || b != nil && !b.same(&p.Header):
			// Where a newer body took the place of another and the program ended in
			// between, the older one's parts are still there: those that are lost by
			// this are sent again.
			if err := st.Delete(name); err != nil {
				return nil, err
			}
		case b == nil:
			size, _ := p.size(len(p.Data))
			c.bodies[bodyName(&p.Header)] = &body{p.Header, p.Key, size, []int{p.Chunk}}
		default:
			b.add(p.Chunk)
		}
	}
	return c, nil
}

// stored is a part as a State keeps it. It was checked before; Sum shows damage.
type stored struct {
	Header Header `cbor:"1,keyasint"`
	Data   []byte `cbor:"2,keyasint"`
	Sum    Hash   `cbor:"3,keyasint"` // of Data
	Key    Hash   `cbor:"4,keyasint,omitzero"`
}

// read gives a part, nil where it is gone or damaged.
func (c *Collector) read(name string) (*Part, error) {
	data, err := c.st.Get(name)
	if err != nil || data == nil {
		return nil, err
	}
	var s stored
	if unmarshal(data, &s) != nil || s.Sum != sha256.Sum256(s.Data) || s.Header.check(len(s.Data)) != nil {
		return nil, nil
	}
	return &Part{s.Header, s.Data, s.Key}, nil
}

// bodyName is what bodies that cannot be open beside each other share.
func bodyName(h *Header) string {
	if h.Kind == KindModel {
		return "model-" + h.Body.String()
	}
	return string(h.Kind) + "-" + h.From + h.To
}

func (c *Collector) name(h *Header) string {
	return fmt.Sprintf("%s%s/%d", c.prefix, bodyName(h), h.Chunk)
}

// Add takes a part. It gives the whole body when all are there, checked against
// its hash: that body stays until Drop. Before, it gives nil. Parts that are
// there are taken again without a word. Refused are parts of a body that is
// older than the open one of the same key (StaleSeq), that do not fit it
// (Conflict), too long (BadBody), or one more than may be open (Busy). An error
// that is no Refusal is the State's.
func (c *Collector) Add(p *Part) ([]byte, error) {
	if p.Bytes > c.most {
		return nil, refuse(BadBody, "a body of %d bytes, more than %d", p.Bytes, c.most)
	}
	size, _ := p.size(len(p.Data))
	key := bodyName(&p.Header)
	b := c.bodies[key]
	if b != nil && p.From != "" && otherKey(b.key, p.Key) {
		if err := c.drop(key); err != nil { // nobody goes on with it
			return nil, err
		}
		b = nil
	}
	switch {
	case b == nil && len(c.bodies) >= c.open:
		return nil, refuse(Busy, "%d bodies are open", c.open)
	case b != nil && p.Seq < b.Seq:
		return nil, refuse(StaleSeq, "sequence %d; %d came since", p.Seq, b.Seq)
	case b != nil && p.Seq == b.Seq && (!b.same(&p.Header) || b.size != size):
		return nil, refuse(Conflict, "another body than the one under sequence %d", p.Seq)
	case b != nil && p.Seq > b.Seq:
		if err := c.drop(key); err != nil {
			return nil, err
		}
		b = nil
	}
	if b == nil {
		b = &body{p.Header, p.Key, size, nil}
	}
	if _, there := slices.BinarySearch(b.have, p.Chunk); !there {
		data, err := marshal(stored{p.Header, p.Data, sha256.Sum256(p.Data), p.Key})
		if err != nil {
			return nil, err
		}
		if err := c.st.Loose(c.name(&p.Header), data); err != nil {
			return nil, err
		}
		c.bodies[key] = b
		b.add(p.Chunk)
	}
	if len(b.have) < b.Chunks {
		return nil, nil
	}
	return c.whole(key, b)
}

func (b *body) add(chunk int) {
	if at, there := slices.BinarySearch(b.have, chunk); !there {
		b.have = slices.Insert(b.have, at, chunk)
	}
}

// whole puts a body together. One that is not what its header says is dropped.
func (c *Collector) whole(key string, b *body) ([]byte, error) {
	var all bytes.Buffer
	all.Grow(b.Bytes)
	h := b.Header
	for h.Chunk = range b.Chunks {
		p, err := c.read(c.name(&h))
		if err != nil {
			return nil, err
		}
		if p == nil { // damaged since
			b.have = slices.DeleteFunc(b.have, func(n int) bool { return n == h.Chunk })
			return nil, nil
		}
		all.Write(p.Data)
	}
	if sha256.Sum256(all.Bytes()) != b.Body {
		if err := c.drop(key); err != nil {
			return nil, err
		}
		return nil, refuse(BadBody, "the parts are %x together, not %s", sha256.Sum256(all.Bytes()), b.Body)
	}
	return all.Bytes(), nil
}

// Have gives the numbers of the parts that are there of the body that a header
// belongs to, in their order.
func (c *Collector) Have(h *Header) []int {
	if b := c.bodies[bodyName(h)]; b != nil && b.same(h) {
		return slices.Clone(b.have)
	}
	return nil
}

// Open gives the headers of the bodies that are open, in no order.
func (c *Collector) Open() []Header {
	var list []Header
	for _, b := range c.bodies {
		list = append(list, b.Header)
	}
	return list
}

// Drop forgets the body that a header belongs to, and its parts.
func (c *Collector) Drop(h *Header) error {
	if b := c.bodies[bodyName(h)]; b == nil || !b.same(h) {
		return nil
	}
	return c.drop(bodyName(h))
}

func (c *Collector) drop(key string) error {
	names, err := c.st.List(c.prefix + key + "/")
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.st.Delete(name); err != nil {
			return err
		}
	}
	delete(c.bodies, key)
	return nil
}

// Missing gives the numbers from 0 to chunks-1 that are not in have.
func Missing(have []int, chunks int) []int {
	var list []int
	for i := range chunks {
		if !slices.Contains(have, i) {
			list = append(list, i)
		}
	}
	return list
}

// ModelChunk reads a topic of a chunk of weights.
func ModelChunk(topic string) (task string, body Hash, chunk int, ok bool) {
	part := strings.Split(topic, "/")
	if len(part) != 5 || part[0] != "fl" || part[2] != "model" || body.UnmarshalText([]byte(part[3])) != nil {
		return "", Hash{}, 0, false
	}
	if _, err := fmt.Sscanf(part[4], "%d", &chunk); err != nil || chunk < 0 || chunk >= maxChunks || ModelTopic(part[1], body, chunk) != topic {
		return "", Hash{}, 0, false
	}
	return part[1], body, chunk, true
}

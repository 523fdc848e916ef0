package pack

// inputs is how many contexts guess each bit.
const inputs = 6

// logistic holds the two functions between a chance and its place on a line,
// ln(p/(1-p)), where evidence of several sources adds up. Places are in
// 1/256, chances in 1/65536.
type logistic struct {
	chance [2*reach + 1]uint16 // of a place + reach
	place  [4096]int16         // of a chance in 1/4096
}

const reach = 12 * 256

// newLogistic fills the tables with whole numbers alone: processors round the
// last bit of a power in their own ways.
func newLogistic() *logistic {
	l := &logistic{}
	const step = 4278222805 // e^(-1/256), in 1/2^32
	power := uint64(1) << 32
	for x := 0; x <= reach; x++ { // power is e^(-x/256)
		p := uint16(min((uint64(1)<<48)/(1<<32+power), 65535))
		l.chance[reach+x], l.chance[reach-x] = p, max(uint16(65535-p), 1)
		power = power * step >> 32
	}
	x := 0
	for p := range l.place {
		for x < 2*reach && int(l.chance[x]) < p<<4+8 {
			x++
		}
		l.place[p] = int16(x - reach)
	}
	return l
}

// mixer guesses bits from several contexts at once: each has a counter, and
// what the counters say is weighed by how well they did so far, as logistic
// regression would learn it.
type mixer struct {
	*logistic
	counters [inputs][]counter
	weights  [][inputs]int32 // by set, in 1/65536
	mask     uint32
	fast     bool // the first context alone
}

func newMixer(l *logistic, contexts, sets int, fast bool) *mixer {
	m := &mixer{logistic: l, fast: fast, weights: make([][inputs]int32, sets)}
	size := 1 << 10
	for size < contexts && size < 1<<18 {
		size <<= 1
	}
	m.mask = uint32(size - 1)
	for k := range m.counters {
		if k > 0 && fast {
			break
		}
		m.counters[k] = make([]counter, size)
		for i := range m.counters[k] {
			m.counters[k][i] = unknown
		}
	}
	for s := range m.weights {
		for k := range m.weights[s] {
			m.weights[s][k] = 65536 / 5
		}
	}
	return m
}

// code codes a bit under contexts, any numbers, with the weights of a set.
func (m *mixer) code(c *coder, contexts *[inputs]uint32, set, b int) int {
	if m.fast {
		p := &m.counters[0][contexts[0]&m.mask]
		b = c.bit(p.chance(), b)
		p.learn(b, limit)
		return b
	}
	var at [inputs]*counter
	var place [inputs]int32
	w := &m.weights[set]
	sum := int64(0)
	for k := range at {
		// Multiplied by a large odd number, contexts spread over the table.
		at[k] = &m.counters[k][(contexts[k]*0x9E3779B1)>>7&m.mask]
		place[k] = int32(m.place[uint32(*at[k])>>20])
		sum += int64(place[k]) * int64(w[k])
	}
	x := min(max(sum>>16, -reach), reach)
	p := uint32(m.chance[x+reach])
	b = c.bit(p, b)
	miss := int64(b)*65535 - int64(p)
	for k := range at {
		w[k] += int32(int64(place[k]) * miss >> 15)
		at[k].learn(b, limit)
	}
	return b
}

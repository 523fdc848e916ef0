package rollout

import (
	"math"
	"strings"
	"sync"

	"edgegateway/sensors"
)

// truths holds what versions of a model answered against the labels that arrive
// later, by the id of the result. It is bounded: the oldest answers leave.
type truths struct {
	cfg       LabelsConfig
	id, label sensors.NamePath

	mu    sync.Mutex
	said  map[string]*answers
	order []string // the ids, the oldest at next once it is full
	next  int
	by    map[string]marks // by version
}

// answers are what versions said of one sample, two at most.
type answers struct {
	version, label [2]string
	n              int
	right          string
	known          bool
}

// marks are what came of the labels of one version.
type marks struct{ labels, right uint64 }

func (m marks) since(before marks) marks {
	if before.labels > m.labels { // they were forgotten
		return m
	}
	return marks{m.labels - before.labels, m.right - before.right}
}

func (m marks) accuracy() float64 {
	if m.labels == 0 {
		return 0
	}
	return float64(m.right) / float64(m.labels)
}

const (
	maxTruth        = 64 << 10 // bytes of a message
	maxTruthVersion = 64
)

func newTruths(cfg LabelsConfig) (*truths, error) {
	t := &truths{cfg: cfg, said: map[string]*answers{}, by: map[string]marks{}}
	var err error
	if t.id, err = sensors.NewNamePath(cfg.ID); err == nil {
		t.label, err = sensors.NewNamePath(cfg.Label)
	}
	return t, err
}

// answer remembers what a version said. The strings are kept.
func (t *truths) answer(id, version, label string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.said[id]
	if a == nil {
		a = &answers{}
		if len(t.order) < t.cfg.Keep {
			t.order = append(t.order, id)
		} else {
			delete(t.said, t.order[t.next])
			t.order[t.next] = id
			t.next = (t.next + 1) % len(t.order)
		}
		t.said[id] = a
	}
	if a.n == len(a.version) {
		return
	}
	a.version[a.n], a.label[a.n] = version, label
	a.n++
	if a.known {
		t.mark(version, label == a.right)
	}
}

// hear takes a message with a label; one for a result that is not remembered,
// or was labelled before, counts for nothing.
func (t *truths) hear(payload []byte) {
	if len(payload) > maxTruth {
		return
	}
	id, err := t.id.Name(payload)
	if err != nil {
		return
	}
	label, err := t.label.Name(payload)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.said[id]
	if a == nil || a.known {
		return
	}
	a.right, a.known = strings.Clone(label), true // it is a part of the payload
	for i := range a.n {
		t.mark(a.version[i], a.label[i] == label)
	}
}

// mark counts one label; the caller holds the lock.
func (t *truths) mark(version string, right bool) {
	m, ok := t.by[version]
	if !ok && len(t.by) >= maxTruthVersion {
		clear(t.by) // years of versions
	}
	m.labels++
	if right {
		m.right++
	}
	t.by[version] = m
}

// of is what came of a version's labels; t may be nil.
func (t *truths) of(version string) marks {
	if t == nil {
		return marks{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.by[version]
}

// worse says whether a version is less accurate than the one before by more
// than so much, and not by chance: by three standard errors too.
func (m marks) worse(before marks, much float64) bool {
	if m.labels < fewestOf || before.labels < fewestOf {
		return false
	}
	p, q := before.accuracy(), m.accuracy()
	chance := math.Sqrt(p*(1-p)/float64(before.labels) + q*(1-q)/float64(m.labels))
	return p-q > max(much, 3*chance)
}

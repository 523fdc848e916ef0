package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edgegateway/infer"
	"edgegateway/sensors"
)

// BesideConfig says what a second version of a model does beside the live one.
type BesideConfig struct {
	Shadow    float64 // share of the samples that it is asked too, after the live one, 0..1
	Canary    float64 // share of the sources that it answers in the live one's place, 0..1
	Tolerance float64 // how far numbers may differ: a share of their span
}

// Beside is a second version of a model at work beside the live one. What it
// is asked in the shadow waits in a bounded queue; what finds that full is
// dropped, and the streams never wait for it.
type Beside struct {
	cfg   BesideConfig
	live  *infer.Model
	open  func() (*infer.Model, error)
	found func(Compared)
	model atomic.Pointer[infer.Model] // nil: not open yet, or closed
	ready chan struct{}               // closed once it is open

	free, jobs chan *besideJob
	waiting    atomic.Int64 // bytes in it
	dropped    atomic.Uint64

	mu     sync.Mutex
	begun  time.Time
	before infer.Counts // of the live version when it began
	last   infer.Counts // of this one when it was closed
	agreement
	samples, agreed uint64
	classes         map[string]*ClassCount
	pairs           map[[2]string]uint64
}

// Compared is one sample that both versions answered. It is valid until the
// function that it is given to returns.
type Compared struct {
	Live   *Result       // with what the live version said
	Beside *infer.Result // what the other one said
	Same   bool
	Input  []float64 // what the model takes, before it is normalised; empty where there is a picture
}

// What may wait for a version in the shadow.
const (
	besideJobs  = 64
	besideBytes = 16 << 20
	besideKept  = 1 << 20 // bytes of one job's memory that are used again
)

// Bounds of the tables of what differs; what comes on top goes into the sums
// alone.
const (
	maxClasses = 1000
	maxPairs   = 1000
)

// besideJob is a sample on its way to the version in the shadow. Its memory is
// used again.
type besideJob struct {
	s     *Stream
	slot  slot
	bytes []byte
	size  int64
}

// NewBeside makes one that open opens, which Run calls. live is the model at work.
// found may be nil; it is told of each comparison, one after the other.
func NewBeside(cfg BesideConfig, live *infer.Model, open func() (*infer.Model, error), found func(Compared)) *Beside {
	b := &Beside{
		cfg: cfg, live: live, open: open, found: found, ready: make(chan struct{}),
		free: make(chan *besideJob, besideJobs), jobs: make(chan *besideJob, besideJobs),
		agreement: agreement{tolerance: cfg.Tolerance},
		classes:   map[string]*ClassCount{}, pairs: map[[2]string]uint64{},
	}
	for range besideJobs {
		b.free <- &besideJob{}
	}
	return b
}

// Beside puts a version beside the live one of a model, for all streams that
// are not pinned to a version, also those of later configurations; nil ends
// that. A sample that is on its way is answered by what it began with.
func (p *Pipeline) Beside(model string, b *Beside) { p.besideOf(model).Store(b) }

// besideOf is where the streams of a model look.
func (p *Pipeline) besideOf(model string) *atomic.Pointer[Beside] {
	at, _ := p.besides.LoadOrStore(model, new(atomic.Pointer[Beside]))
	return at.(*atomic.Pointer[Beside])
}

// Ready is closed when the version is open.
func (b *Beside) Ready() <-chan struct{} { return b.ready }

// Run opens the version and answers what is asked in the shadow until ctx ends;
// then it closes the version. It is called once.
func (b *Beside) Run(ctx context.Context) error {
	m, err := b.open()
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.begun, b.before = time.Now(), b.live.Counts()
	b.mu.Unlock()
	b.model.Store(m)
	close(b.ready)
	defer func() {
		b.mu.Lock()
		b.last = m.Counts()
		b.model.Store(nil)
		b.mu.Unlock()
		m.Close()
	}()
	w := &worker{images: sensors.NewImageDecoder()}
	var said infer.Result
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-b.jobs:
			j.s.letPass(ctx)
			if err := w.ask(ctx, m, j, &said); err == nil {
				b.compare(j, &said)
			} // else the version counted it
			b.waiting.Add(-j.size)
			if j.size > besideKept {
				j = &besideJob{}
			}
			j.slot.result.Picture = nil
			b.free <- j
		}
	}
}

// How long the shadow stands back where the stream is behind, and how often it
// looks; without an end a stream that is always behind would never be compared.
const (
	standsBack = 50 * time.Millisecond
	looksAgain = time.Millisecond
)

// letPass waits while messages of the stream wait for its workers.
func (s *Stream) letPass(ctx context.Context) {
	for begin := time.Now(); s.queued() > 0 && ctx.Err() == nil && time.Since(begin) < standsBack; {
		time.Sleep(looksAgain)
	}
}

// ask runs a model for a sample of a stream.
func (w *worker) ask(ctx context.Context, m *infer.Model, j *besideJob, said *infer.Result) error {
	w.s, w.slot = j.s, &j.slot
	fill := w.fillNumbers
	if j.s.cfg.Input.Image != "" {
		fill = w.fillPicture
	}
	said.Reset()
	if err := m.Run(ctx, fill, said); err != nil {
		return err
	}
	for i := range said.Objects {
		w.toPicture(&said.Objects[i])
	}
	return nil
}

// picks says what the version is for the sample in a slot: shadow and canary
// are a steady choice by source and number, and by source.
func (b *Beside) picks(at *slot) (shadow, canary bool) {
	if b.cfg.Canary > 0 && hashed(at.result.Source, 0, 0) < b.cfg.Canary {
		return false, true
	}
	return b.cfg.Shadow > 0 && hashed(at.result.Source, at.result.Seq+1, uint64(at.part)) < b.cfg.Shadow, false
}

// hashed is a number in 0..1 that is steady over restarts: FNV-1a, mixed as in
// splitmix64, for FNV's high bits hardly differ between short names.
func hashed(source string, seq, part uint64) float64 {
	h := uint64(14695981039346656037)
	for i := range len(source) {
		h = (h ^ uint64(source[i])) * 1099511628211
	}
	h += seq*0x9e3779b97f4a7c15 + part*0xd1b54a32d192ed03
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	h ^= h >> 31
	return float64(h>>11) / (1 << 53)
}

// offer hands a sample, with the live version's answer, on to the shadow.
func (b *Beside) offer(s *Stream, at *slot) {
	size := int64(len(at.result.Picture) + len(at.bytes) + 8*(len(at.input)+len(at.kept)+len(at.result.Infer.Values)))
	if b.waiting.Add(size) > besideBytes {
		b.waiting.Add(-size)
		b.dropped.Add(1)
		return
	}
	select {
	case j := <-b.free:
		j.take(s, at)
		j.size = size
		b.jobs <- j // there are no more jobs than it has room for
	default:
		b.waiting.Add(-size)
		b.dropped.Add(1)
	}
}

// take copies what the worker will use again.
func (j *besideJob) take(s *Stream, at *slot) {
	j.s = s
	to, from := &j.slot.result, &at.result
	features, said := to.Features[:0], to.Infer
	*to = *from
	to.Features = append(features, from.Features...)
	to.Infer.Top = append(said.Top[:0], from.Infer.Top...)
	to.Infer.Values = append(said.Values[:0], from.Infer.Values...)
	to.Infer.Objects = append(said.Objects[:0], from.Infer.Objects...)
	for i := range to.Infer.Objects {
		to.Infer.Objects[i].Points = nil // the worker's
	}
	j.slot.input = append(j.slot.input[:0], at.input...)
	j.slot.kept = append(j.slot.kept[:0], at.kept...)
	j.slot.bytes = nil
	if at.bytes != nil {
		j.bytes = append(j.bytes[:0], at.bytes...)
		j.slot.bytes = j.bytes
	}
}

// compare counts one sample that both versions answered.
func (b *Beside) compare(j *besideJob, said *infer.Result) {
	live := &j.slot.result.Infer
	b.mu.Lock()
	same := b.agree(live, said)
	b.samples++
	c := b.classes[live.Label]
	if c == nil && len(b.classes) < maxClasses {
		c = &ClassCount{Label: live.Label}
		b.classes[live.Label] = c
	}
	if c != nil {
		c.Samples++
	}
	if same {
		b.agreed++
	} else {
		if c != nil {
			c.Differ++
		}
		pair := [2]string{live.Label, said.Label}
		if _, there := b.pairs[pair]; there || len(b.pairs) < maxPairs {
			b.pairs[pair]++
		}
	}
	b.mu.Unlock()
	if b.found != nil {
		b.found(Compared{Live: &j.slot.result, Beside: said, Same: same, Input: j.slot.kept})
	}
}

// canary lets the version answer in the live one's place. An error of its own
// leaves the sample to the live one.
func (w *worker) canary(ctx context.Context, at *slot) error {
	err := errors.New("not open")
	if m := at.beside.model.Load(); m != nil {
		if err = w.run(ctx, m, at); err == nil {
			return nil
		}
		w.s.log.Debug().Err(err).Str("version", m.Version()).Msg("the live version answers in the canary's place")
	}
	at.result.Infer.Reset()
	return fmt.Errorf("canary: %w", err)
}

// ClassCount is one class as the live version says it.
type ClassCount struct {
	Label   string `json:"label"`
	Samples uint64 `json:"samples"`
	Differ  uint64 `json:"differ"` // of them: the other version says something else
}

// PairCount is how often one version said this and the other one that.
type PairCount struct {
	Live    string `json:"live"`
	Beside  string `json:"beside"`
	Samples uint64 `json:"samples"`
}

// BesideCounts are what a version beside the live one did since it is open.
type BesideCounts struct {
	Begun        time.Time    // zero: it is not open yet
	Samples      uint64       // answered by both, and compared
	Agreed       uint64       // of them
	Dropped      uint64       // not asked, for the queue was full
	Classes      []ClassCount // those that differ most often first
	Pairs        []PairCount  // what differs, the most frequent first
	Beside, Live infer.Counts
}

// Counts are what the version did so far.
func (b *Beside) Counts() BesideCounts {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := BesideCounts{Begun: b.begun, Samples: b.samples, Agreed: b.agreed, Dropped: b.dropped.Load(), Beside: b.last}
	if b.begun.IsZero() {
		return c
	}
	if m := b.model.Load(); m != nil {
		c.Beside = m.Counts()
	}
	c.Live = b.live.Counts().Since(b.before)
	for _, label := range slices.Sorted(maps.Keys(b.classes)) {
		c.Classes = append(c.Classes, *b.classes[label])
	}
	slices.SortStableFunc(c.Classes, func(a, b ClassCount) int { return cmp.Compare(b.Differ, a.Differ) })
	for pair, n := range b.pairs {
		c.Pairs = append(c.Pairs, PairCount{pair[0], pair[1], n})
	}
	slices.SortFunc(c.Pairs, func(a, b PairCount) int {
		return cmp.Or(cmp.Compare(b.Samples, a.Samples), cmp.Compare(a.Live, b.Live), cmp.Compare(a.Beside, b.Beside))
	})
	return c
}

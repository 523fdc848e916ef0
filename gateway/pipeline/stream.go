package pipeline

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/infer"
	"edgegateway/sensors"
)

// Publisher publishes on the local broker. The payload is not changed after.
type Publisher interface {
	Publish(topic string, payload []byte, qos byte, retain bool) error
}

// Sink takes what a stream found. The Result is valid until Result returns,
// the JSON for ever; up says whether the stream's configuration sends this
// one to the cloud. It is called by many workers at once, for one source in
// order.
type Sink interface {
	Result(r *Result, json []byte, up bool)
}

// Stream is one running stream: its queues and workers.
type Stream struct {
	name   string
	cfg    Config
	model  *infer.Model // nil: rules over values alone
	epoch  string
	pub    Publisher
	sinks  []Sink
	rec    Recorder // nil: nothing of this stream is kept
	every  every    // which samples are
	watch  *watch   // nil: it is not looked at for drift
	send   send
	values []string // names of a reading's values, nil where they have none
	log    zerolog.Logger
	*tally
	naming  sensors.NamePath   // where the source is a path in the payload
	pieces  *sensors.Assembler // nil where pictures come whole
	sources *sources
	seed    maphash.Seed
	queues  []*queue
	dealing sync.RWMutex
	dealt   map[string]*queue // by source
	workers []*worker
	ended   <-chan struct{}         // closed when run has returned
	beside  *atomic.Pointer[Beside] // where it looks for a second version of its model
}

// tally counts what comes and goes. It outlives a reload of its stream.
type tally struct {
	in, results atomic.Uint64
	drops       *drops
}

// newStream builds a stream and all its workers; run starts them.
func newStream(name string, cfg Config, model *infer.Model, epoch uint64, pub Publisher, sinks []Sink, rec Recorder, watch Watcher, t *tally, log zerolog.Logger) (*Stream, error) {
	s := &Stream{
		name: name, cfg: cfg, model: model, epoch: fmt.Sprint(epoch), pub: pub, sinks: sinks,
		log: log.With().Str("stream", name).Logger(), tally: t, seed: maphash.MakeSeed(), dealt: map[string]*queue{},
		beside: new(atomic.Pointer[Beside]),
	}
	var err error
	if s.send, err = parseSend(cfg.Results.Send); err != nil {
		return nil, fmt.Errorf("streams.%s.results.send: %w", name, err)
	}
	if cfg.Record != nil && rec != nil {
		s.rec = rec
		if s.every, err = parseEvery(cfg.Record.Every); err != nil {
			return nil, fmt.Errorf("streams.%s.record.every: %w", name, err)
		}
	}
	if cfg.Drift != nil {
		if s.watch, err = newWatch(name, cfg, model, rec, watch, s.log); err != nil {
			return nil, prefixStream(name, err)
		}
	}
	pol, err := parsePolicy(cfg.Full)
	if err != nil {
		return nil, fmt.Errorf("streams.%s.full: %w", name, err)
	}
	if cfg.pathSource() {
		if s.naming, err = sensors.NewNamePath(cfg.Source); err != nil {
			return nil, fmt.Errorf("streams.%s.source: %w", name, err)
		}
	}
	if cfg.Input.Chunks {
		s.pieces = sensors.NewAssembler(cfg.Input)
	}
	s.sources = newSources(cfg.MaxSources, s.newSource)
	for range cfg.workers() {
		w, err := newWorker(s)
		if err != nil {
			return nil, prefixStream(name, err)
		}
		s.workers = append(s.workers, w)
		s.queues = append(s.queues, newQueue(pol, cfg.Queue))
	}
	s.values = s.workers[0].decoder.Names()
	return s, nil
}

func prefixStream(name string, err error) error { return fmt.Errorf("streams.%s.%w", name, err) }

// push queues a message that matched filter. It blocks where the stream's
// policy says so and every worker of the source is busy.
func (s *Stream) push(ctx context.Context, filter string, m broker.Message) {
	if s.pieces != nil && !s.whole(&m) {
		return
	}
	s.in.Add(1)
	src, err := s.sourceOf(filter, &m)
	if err != nil {
		s.drops.add(s.log, sensors.Reason(err), 1, fmt.Errorf("topic %s: %w", m.Topic, err))
		return
	}
	left, ok := s.queueOf(src).push(ctx, item{msg: m, source: src})
	if left != "" {
		s.drops.add(s.log, left, 1, nil)
	}
	if !ok {
		s.drops.add(s.log, "stopping", 1, nil)
	}
}

// queueOf gives the queue that has all messages of a source. Sources are dealt
// out in turn as they are first heard, so that a few of them use all workers;
// those over the bound of sources fall where their hash says.
func (s *Stream) queueOf(src string) *queue {
	if len(s.queues) == 1 {
		return s.queues[0]
	}
	s.dealing.RLock()
	q := s.dealt[src]
	s.dealing.RUnlock()
	if q != nil {
		return q
	}
	s.dealing.Lock()
	defer s.dealing.Unlock()
	if q := s.dealt[src]; q != nil {
		return q
	}
	if len(s.dealt) >= s.cfg.MaxSources {
		return s.queues[maphash.String(s.seed, src)%uint64(len(s.queues))]
	}
	q = s.queues[len(s.dealt)%len(s.queues)]
	s.dealt[strings.Clone(src)] = q
	return q
}

// whole puts the pieces of a picture together before they are queued: there
// a policy that drops would tear them. A picture counts as one message, and so
// does one that is torn.
func (s *Stream) whole(m *broker.Message) bool {
	payload, complete, err := s.pieces.Add(m.Topic, m.Payload)
	if err != nil {
		s.in.Add(1)
		s.drops.add(s.log, sensors.Reason(err), 1, fmt.Errorf("topic %s: %w", m.Topic, err))
	}
	m.Payload = payload
	return complete
}

// tornInTime finds pictures of which the rest did not come, until ended is
// closed; what is under way then comes to nothing.
func (s *Stream) tornInTime(ended <-chan struct{}) {
	const often = 20 * time.Millisecond // of a chunk_timeout that is shorter
	for {
		late, next := s.pieces.Late()
		for _, err := range late {
			s.in.Add(1)
			s.drops.add(s.log, sensors.Reason(err), 1, err)
		}
		select {
		case <-time.After(max(next, often)):
		case <-ended:
			if n := s.pieces.Open(); n > 0 {
				s.in.Add(uint64(n))
				s.drops.add(s.log, "stopping", n, nil)
			}
			return
		}
	}
}

// maxSourceBytes and maxSourceLevels bound a source's name, which comes from
// outside and becomes a part of topics and ids.
const (
	maxSourceBytes  = 1024
	maxSourceLevels = 32
)

func (s *Stream) sourceOf(filter string, m *broker.Message) (src string, err error) {
	switch s.cfg.Source {
	case "":
		src, _ = broker.Wildcards(filter, m.Topic)
		if s.pieces != nil {
			src = sensors.ChunkSource(src)
		}
		if src == "" {
			return s.name, nil
		}
	case "client":
		src = m.ClientID
	default:
		if src, err = s.naming.Name(m.Payload); err != nil {
			return "", err
		}
	}
	if len(src) > maxSourceBytes || strings.Count(src, "/") >= maxSourceLevels {
		return "", &sensors.Error{Why: "no_source", Text: fmt.Sprintf("a source of %d bytes and %d levels is too long", len(src), strings.Count(src, "/")+1)}
	}
	return src, nil
}

// run works until every queue is closed and empty. ctx cuts short what is
// under way.
func (s *Stream) run(ctx context.Context) {
	if s.pieces != nil {
		ended, done := make(chan struct{}), make(chan struct{})
		go func() { defer close(done); s.tornInTime(ended) }()
		defer func() { close(ended); <-done }()
	}
	if s.watch != nil {
		ended, done := make(chan struct{}), make(chan struct{})
		go func() { defer close(done); s.watch.run(ended) }()
		defer func() { close(ended); <-done }()
	}
	var wg sync.WaitGroup
	for i, w := range s.workers {
		wg.Go(func() {
			var batch []item
			for {
				if batch = s.queues[i].take(batch); batch == nil {
					return
				}
				for k := range batch {
					if ctx.Err() != nil {
						s.drops.add(s.log, "stopping", 1, nil)
						continue
					}
					w.handle(ctx, &batch[k])
				}
				w.flush(ctx)
			}
		})
	}
	wg.Wait()
}

func (s *Stream) close() {
	for _, q := range s.queues {
		q.close()
	}
}

func (s *Stream) queued() (n int) {
	for _, q := range s.queues {
		n += q.len()
	}
	return n
}

// newSource is a source that was not heard before, or not for long.
func (s *Stream) newSource(name string) *source {
	topic := strings.NewReplacer("{stream}", s.name, "{source}", topicLevels(name)).Replace(s.cfg.Results.Topic)
	src := &source{name: name, topic: topic, idBase: s.name + "/" + name + "/" + s.epoch + "-"}
	if s.cfg.Window != nil {
		src.window = sensors.NewWindow(*s.cfg.Window, len(s.values))
	}
	return src
}

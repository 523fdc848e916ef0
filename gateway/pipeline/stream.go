package pipeline

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

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
	name    string
	cfg     Config
	model   *infer.Model // nil: rules over values alone
	epoch   string
	pub     Publisher
	sinks   []Sink
	send    send
	names   []string // of the features of a result, in order
	log     zerolog.Logger
	drops   *drops
	seed    maphash.Seed
	queues  []*queue
	workers []*worker

	in, results atomic.Uint64
	ended       <-chan struct{} // closed when run has returned
}

// newStream builds a stream and all its workers; run starts them.
func newStream(name string, cfg Config, model *infer.Model, epoch uint64, pub Publisher, sinks []Sink, d *drops, log zerolog.Logger) (*Stream, error) {
	s := &Stream{
		name: name, cfg: cfg, model: model, epoch: fmt.Sprint(epoch), pub: pub, sinks: sinks,
		log: log.With().Str("stream", name).Logger(), drops: d, seed: maphash.MakeSeed(),
	}
	var err error
	if s.send, err = parseSend(cfg.Results.Send); err != nil {
		return nil, fmt.Errorf("streams.%s.results.send: %w", name, err)
	}
	pol, err := parsePolicy(cfg.Full)
	if err != nil {
		return nil, fmt.Errorf("streams.%s.full: %w", name, err)
	}
	n := cfg.workers()
	for range n {
		w, err := newWorker(s, max(1, cfg.MaxSources/n))
		if err != nil {
			return nil, prefixStream(name, err)
		}
		s.workers = append(s.workers, w)
		s.queues = append(s.queues, newQueue(pol, cfg.Queue))
	}
	s.names = s.workers[0].names
	return s, nil
}

func prefixStream(name string, err error) error { return fmt.Errorf("streams.%s.%w", name, err) }

// push queues a message that matched filter. It blocks where the stream's
// policy says so and every worker of the source is busy.
func (s *Stream) push(ctx context.Context, filter string, m broker.Message) {
	s.in.Add(1)
	src, ok := s.sourceOf(filter, &m)
	if !ok {
		s.drops.add(s.log, "no_source", 1, fmt.Errorf("topic %s: nothing at %q in the payload", m.Topic, s.cfg.Source))
		return
	}
	q := s.queues[maphash.String(s.seed, src)%uint64(len(s.queues))]
	dropped, ok := q.push(ctx, item{msg: m, source: src})
	if dropped > 0 {
		reason := "queue_full"
		if q.policy == latest {
			reason = "superseded"
		}
		s.drops.add(s.log, reason, dropped, nil)
	}
	if !ok {
		s.drops.add(s.log, "stopping", 1, nil)
	}
}

func (s *Stream) sourceOf(filter string, m *broker.Message) (string, bool) {
	switch s.cfg.Source {
	case "":
		src, _ := broker.Wildcards(filter, m.Topic)
		if s.cfg.Input.Chunked() {
			src = sensors.ChunkSource(src)
		}
		if src == "" {
			src = s.name
		}
		return src, true
	case "client":
		return m.ClientID, true
	}
	return sensors.Lookup(m.Payload, s.cfg.Source)
}

// run works until every queue is closed and empty. ctx cuts short what is
// under way.
func (s *Stream) run(ctx context.Context) {
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

// resultTopic is where results of a source go.
func (s *Stream) resultTopic(source string) string {
	return strings.NewReplacer("{stream}", s.name, "{source}", source).Replace(s.cfg.Results.Topic)
}

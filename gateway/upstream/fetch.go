package upstream

import (
	"context"
	"errors"
	"sync"
	"time"
)

// getter is a connection as the fetching of chunks needs it.
type getter interface {
	Get(ctx context.Context, topic string) ([]byte, error)
	Done() <-chan struct{}
}

const (
	mostAhead  = 512 << 10 // bytes that are asked for at a time
	mostChunks = 8         // the same in chunks; AWS IoT takes 50 subscriptions of a connection
	chunkTime  = time.Minute
)

// errAbsent is the cause of a chunk that did not come in time.
var errAbsent = errors.New("the broker has no such chunk, or the link is too slow for it")

// ahead is how many bytes may be asked for at a time; it outlives the
// connection. Acknowledgements of results come behind them in the same stream,
// and where these take longer than timeout the link counts as dead: so it grows
// while chunks come swiftly, and shrinks where they do not.
type ahead struct {
	bytes   int
	timeout time.Duration
}

// arrived notes how long a chunk took from the moment it was asked for.
func (a *ahead) arrived(took time.Duration, least int) {
	switch {
	case took < a.timeout/20:
		a.bytes = min(max(a.bytes, least)*2, mostAhead)
	case took > a.timeout/7:
		a.bytes = max(a.bytes/2, least)
	}
}

// arrival is a chunk that came, or did not.
type arrival struct {
	piece
	b    []byte
	err  error
	took time.Duration
}

// fetch gets what is missing over a connection. It returns nil when all is
// there; progress is called after each chunk.
func (t *incoming) fetch(ctx context.Context, conn getter, a *ahead, progress func()) error {
	own, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	defer clear(t.asked)
	came := make(chan arrival)
	under, n := 0, 0 // bytes and chunks under way
	carried := int64(0)
	var broken error // nothing more is asked for, but what comes yet is taken
	for t.left > 0 {
		for broken == nil && n < mostChunks {
			p, ok := t.next(a.bytes)
			if !ok || n > 0 && under+p.length > a.bytes {
				break
			}
			t.mark(p, true)
			under, n = under+p.length, n+1
			running.Go(func() {
				ctx, cancel := context.WithTimeoutCause(own, chunkTime, errAbsent)
				defer cancel()
				start := time.Now()
				b, err := conn.Get(ctx, t.file.ChunkTopic(p.size, p.n))
				came <- arrival{p, b, err, time.Since(start)}
			})
		}
		if n == 0 {
			return t.broken(ctx, conn, carried, broken)
		}
		got := <-came
		under, n = under-got.length, n-1
		err := got.err
		if err == nil {
			if err = t.arrived(got); err == nil {
				a.arrived(got.took, t.unit)
				carried += int64(got.length)
				t.good(carried)
				progress()
			}
		}
		if err != nil && broken == nil {
			broken = err
			stop()
		}
	}
	return nil
}

// arrived puts a chunk where it belongs.
func (t *incoming) arrived(got arrival) error {
	if len(got.b) != got.length {
		t.mark(got.piece, false)
		return refuse("the chunk at %s is %d bytes long, not %d", t.file.ChunkTopic(got.size, got.n), len(got.b), got.length)
	}
	return t.put(got.piece, got.b)
}

// errLinkLost ends a fetch with its connection; the next one goes on.
var errLinkLost = errors.New("the link was lost")

// broken says what ended a fetch, and notes a cut where it was one.
func (t *incoming) broken(ctx context.Context, conn getter, carried int64, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-conn.Done():
		t.cut(carried)
		return errLinkLost
	default:
		return err
	}
}

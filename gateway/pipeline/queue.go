package pipeline

import (
	"context"
	"slices"
	"sync"

	"edgegateway/broker"
)

// item is one message on its way to a worker.
type item struct {
	msg    broker.Message
	source string
}

// policy says what a full queue does with one more message.
type policy uint8

const (
	block      policy = iota // the publisher waits
	dropOldest               // the oldest of the queue leaves
	latest                   // a newer message of the same source replaces the older
)

// queue is a bounded FIFO between the broker's goroutines and one worker. The
// worker takes everything at once, so that a busy stream pays for one wake-up
// a batch and not one a message.
type queue struct {
	policy policy
	size   int

	mu     sync.Mutex
	items  []item
	oldest int // of a full queue: where items begins, for what left was overwritten
	closed bool
	filled chan struct{} // one token: there is something to take
	room   chan struct{} // closed and replaced when a full queue was taken
}

func newQueue(p policy, size int) *queue {
	return &queue{policy: p, size: size, filled: make(chan struct{}, 1), room: make(chan struct{})}
}

// The reasons why a message leaves a queue for another.
const (
	queueFull  = "queue_full"
	superseded = "superseded"
)

// push queues it and says why one message had to leave for it, "" where none
// had to; ok is false when the queue is closed or ctx ended while it waited
// for room.
func (q *queue) push(ctx context.Context, it item) (left string, ok bool) {
	q.mu.Lock()
	for {
		if q.closed {
			q.mu.Unlock()
			return "", false
		}
		if q.policy == latest {
			for i := range q.items {
				if q.items[i].source == it.source {
					// The newer one takes the older one's place in the queue:
					// a busy source does not push a quiet one back.
					q.items[i] = it
					q.mu.Unlock()
					return superseded, true
				}
			}
		}
		if len(q.items) < q.size {
			break
		}
		if q.policy != block {
			q.items[q.oldest] = it
			q.oldest = (q.oldest + 1) % len(q.items)
			q.mu.Unlock()
			return queueFull, true
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return "", false
		}
		q.mu.Lock()
	}
	q.items = append(q.items, it)
	q.mu.Unlock()
	select {
	case q.filled <- struct{}{}:
	default:
	}
	return "", true
}

// take waits for messages and gives all there are, in order. The batch's
// memory is the queue's next buffer: the caller hands it back by the next
// call. It returns nil when the queue is closed and empty.
func (q *queue) take(spent []item) []item {
	clear(spent) // payloads must not live on in an idle buffer
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			batch := q.items
			if q.oldest > 0 { // bring it to the front
				slices.Reverse(batch[:q.oldest])
				slices.Reverse(batch[q.oldest:])
				slices.Reverse(batch)
			}
			q.items, q.oldest = spent[:0], 0
			if len(batch) >= q.size {
				close(q.room)
				q.room = make(chan struct{})
			}
			q.mu.Unlock()
			return batch
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return nil
		}
		<-q.filled
	}
}

// close lets the worker finish what is queued and refuses what comes later.
func (q *queue) close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.room)
		q.room = make(chan struct{})
	}
	q.mu.Unlock()
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// len is how many messages wait.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

package fl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"
)

// lanes is how many messages are under way at a time. Those of one topic go one
// after the other.
const lanes = 16

// A message that a broker does not take though the link is there is given up
// after so many tries: all behind it would wait. Who needs it asks again.
const (
	sendTries = 6
	sendPause = time.Second // after the first try, doubled after each
)

// outbox sends what machines want sent, until the broker has it.
type outbox struct {
	t    Transport
	log  func(error)
	lane [lanes]*lane
	idle func() // called whenever a lane becomes empty
}

// lane is messages in their order.
type lane struct {
	mu    sync.Mutex
	queue []Message
	busy  bool          // the first is on its way
	wake  chan struct{} // something is new, or the link is there
}

func newOutbox(t Transport, log func(error), idle func()) *outbox {
	o := &outbox{t: t, log: log, idle: idle}
	for i := range o.lane {
		o.lane[i] = &lane{wake: make(chan struct{}, 1)}
	}
	return o
}

// run sends until ctx ends.
func (o *outbox) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, l := range o.lane {
		all.Go(func() { o.send(ctx, l) })
	}
	all.Wait()
}

// put queues a message. A retained one takes the place of an older one on its
// topic that did not leave yet, and one that waits already is not queued again:
// after a lost link machines say much a second time.
func (o *outbox) put(m Message) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(m.Topic))
	l := o.lane[h.Sum32()%lanes]
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := l.queue
	if l.busy {
		if same(l.queue[0], m) && len(l.queue) == 1 {
			return
		}
		waiting = waiting[1:]
	}
	at := slices.IndexFunc(waiting, func(o Message) bool {
		return o.Topic == m.Topic && o.Retain == m.Retain && (m.Retain || bytes.Equal(o.Payload, m.Payload))
	})
	if at >= 0 {
		waiting[at] = m
		return
	}
	l.queue = append(l.queue, m)
	signal(l.wake)
}

func same(a, b Message) bool {
	return a.Topic == b.Topic && a.Retain == b.Retain && bytes.Equal(a.Payload, b.Payload)
}

// linked says that the link is there: what waits for it goes.
func (o *outbox) linked() {
	for _, l := range o.lane {
		signal(l.wake)
	}
}

// empty says whether all is sent.
func (o *outbox) empty() bool {
	for _, l := range o.lane {
		l.mu.Lock()
		n := len(l.queue)
		l.mu.Unlock()
		if n > 0 {
			return false
		}
	}
	return true
}

func (o *outbox) send(ctx context.Context, l *lane) {
	for {
		m, ok := l.first()
		if !ok {
			o.idle()
			select {
			case <-l.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		o.one(ctx, l, m)
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		l.queue, l.busy = l.queue[1:], false
		l.mu.Unlock()
	}
}

func (l *lane) first() (Message, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.queue = nil
		return Message{}, false
	}
	l.busy = true
	return l.queue[0], true
}

// one sends one message, or gives it up.
func (o *outbox) one(ctx context.Context, l *lane, m Message) {
	for tries := 0; ; {
		err := o.t.Publish(ctx, m)
		if err == nil || ctx.Err() != nil {
			return
		}
		pause := time.Hour // until the link is there
		if !errors.Is(err, ErrNoLink) {
			if tries++; tries == sendTries {
				o.log(fmt.Errorf("given up after %d tries: %w", tries, err))
				return
			}
			o.log(fmt.Errorf("%s, %d bytes: %w", m.Topic, len(m.Payload), err))
			pause = sendPause << (tries - 1)
		}
		timer := time.NewTimer(pause)
		select {
		case <-l.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// signal leaves a value in a channel of one, unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

package broker

import (
	"errors"
	"reflect"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	queueLength = 1024    // messages that may wait for one subscriber
	crowded     = 256     // from here on publishers wait, or messages are dropped
	batchBytes  = 4 << 10 // what is gathered into one write while more waits
	noWindow    = 1<<31 - 1
)

// flow is the way from publishers to one subscriber. The library drops what
// finds its queue full, at every QoS, and its own Receive Maximum can stop a
// subscriber for good: a message that waited for the quota never gives it
// back, and looking for the next one can lock up all publishers. So it is told
// of no Receive Maximum, and this is in front of its queue and behind it.
//
// A client that subscribes with QoS 1 is waited for: its publishers go at its
// pace, until one of them has waited for the write timeout; then it is cut. For
// a client with QoS 0 nobody waits: what it does not take in time is dropped.
type flow struct {
	queue    reflect.Value // the library's channel, which it shows to nobody
	promised bool          // the client named a Receive Maximum
	window   int32         // messages that may be unacknowledged
	unacked  atomic.Int32
	waited   atomic.Bool   // subscribed with QoS 1
	busy     atomic.Bool   // its reader handles a packet and sees no acknowledgement
	turn     chan struct{} // taken by the one publisher that watches the queue
	waiting  atomic.Int32  // publishers that want it
	taken    chan struct{} // the queue became shorter
	acked    chan struct{} // the window became wider
	blocked  atomic.Int32  // who waits for acked: the writer, and who sends what waited
	again    atomic.Int32  // messages sent that had waited for the session

	gather bool   // nothing can fail between a packet taken from the queue and its write
	buffer []byte // gathered writes, under the client's lock
	unsent bool   // a message is on its way to the socket; the writer's own, as the next
	last   uint16 // its packet id, 0 at QoS 0
}

func newFlow() flow {
	turn := make(chan struct{}, 1)
	turn <- struct{}{}
	return flow{window: noWindow, turn: turn, taken: make(chan struct{}, 1), acked: make(chan struct{}, 1)}
}

// queueOf finds a client's queue; it is not there where the library changed.
func queueOf(cl *mqtt.Client) (reflect.Value, error) {
	q := reflect.ValueOf(cl).Elem().FieldByName("State").FieldByName("outbound")
	if q.Kind() != reflect.Chan {
		return q, errors.New("the broker library keeps its queue elsewhere than in version 2.7.9")
	}
	return q, nil
}

// open takes the Receive Maximum out of the library's hands.
func (f *flow) open(cl *mqtt.Client, limit int) {
	f.queue, _ = queueOf(cl) // New saw that it is there
	f.window = int32(limit)
	if n := cl.Properties.Props.ReceiveMaximum; n > 0 {
		f.promised, f.window = true, min(f.window, int32(n))
	}
	f.gather = cl.Properties.Props.MaximumPacketSize == 0
	cl.Properties.Props.ReceiveMaximum = 0
	cl.State.Inflight.ResetSendQuota(0)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// setBusy says whether the client's reader is at work on a packet. It sees no
// acknowledgement then, so that who waits for one may wait for itself.
func (f *flow) setBusy(is bool) {
	f.busy.Store(is)
	if is {
		signal(f.acked)
		signal(f.taken)
	}
}

func (f *flow) full() bool {
	return f.queue.Len() >= crowded && !(f.promised && f.busy.Load())
}

// admit is asked before a message goes into the client's queue: false drops it.
func (c *conn) admit(cl *mqtt.Client) bool {
	f := &c.flow
	if f.waited.Load() {
		c.settled()
	}
	if f.waiting.Load() == 0 && !f.full() {
		return true
	}
	if !f.waited.Load() && !f.busy.Load() {
		return f.queue.Len() < crowded
	}
	f.waiting.Add(1)
	defer f.waiting.Add(-1)
	late := time.NewTimer(c.writeTimeout)
	defer late.Stop()
	if !c.wait(f.turn, late) {
		return c.leave(cl)
	}
	defer func() { f.turn <- struct{}{} }()
	for f.full() {
		if !c.wait(f.taken, late) {
			return c.leave(cl)
		}
	}
	return true
}

// leave tells the library that the connection is gone, before its reader comes
// to it: the session may live on, and keeps what goes into the queue no more.
func (c *conn) leave(cl *mqtt.Client) bool {
	cl.Stop(nil)
	return true
}

// settled waits until the session is there, or is nobody's.
func (c *conn) settled() {
	select {
	case <-c.established:
	case <-c.ended:
	}
}

// wait is false where the connection ends first, or is cut since late is over
// and nothing of what waited for its session was sent meanwhile.
func (c *conn) wait(on <-chan struct{}, late *time.Timer) bool {
	for again := c.flow.again.Load(); ; {
		select {
		case <-on:
			return true
		case <-c.gone:
			return false
		case <-late.C:
			now := c.flow.again.Load()
			if now == again {
				c.cut("slow_subscriber")
				return false
			}
			again = now
			late.Reset(c.writeTimeout)
		}
	}
}

// next is called by the client's writer with each message that it took from
// the queue, and by who sends what waited for the session; it waits until the
// client's window has room. It is false when the writer's message before was
// larger than this client takes.
func (c *conn) next(cl *mqtt.Client, pk packets.Packet) (sent bool) {
	f := &c.flow
	if f.waiting.Load() > 0 {
		signal(f.taken)
	}
	sent = true
	if !pk.FixedHeader.Dup { // what waited for the session is sent by others
		// The library finds a new session while it is about to greet it, and a
		// message for the one before it under its id, too: nothing comes before
		// the CONNACK.
		select {
		case <-c.resumed:
		case <-c.gone:
		}
		if f.unsent && !c.isGone() {
			sent = false
			if f.last != 0 && cl.State.Inflight.Delete(f.last) {
				f.free()
			}
		}
		f.unsent, f.last = true, pk.PacketID
	}
	if pk.FixedHeader.Qos == 0 {
		return sent
	}
	closed := func() bool { return f.unacked.Load() >= f.window && (f.promised || !f.busy.Load()) }
	if closed() {
		f.blocked.Add(1)
		cl.Lock()
		_ = c.flush() // the next write meets the error
		cl.Unlock()
	wait:
		for closed() {
			select {
			case <-f.acked:
			case <-c.gone:
				break wait
			}
		}
		f.blocked.Add(-1)
	}
	if f.unacked.Add(1) < f.window && f.blocked.Load() > 0 {
		signal(f.acked)
	}
	return sent
}

// free makes room in the window.
func (f *flow) free() {
	for {
		n := f.unacked.Load()
		if n == 0 {
			return
		}
		if f.unacked.CompareAndSwap(n, n-1) {
			signal(f.acked)
			return
		}
	}
}

// Write gathers packets while more wait in the queue. The client's lock is held.
func (c *conn) Write(p []byte) (int, error) {
	f := &c.flow
	if f.gather && f.queue.Len() > 0 && f.blocked.Load() == 0 && len(f.buffer)+len(p) < batchBytes {
		f.buffer = append(f.buffer, p...)
		return len(p), nil
	}
	if len(f.buffer) == 0 {
		return len(p), c.send(p)
	}
	if len(p) < batchBytes {
		f.buffer = append(f.buffer, p...)
		return len(p), c.flush()
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	return len(p), c.send(p)
}

func (c *conn) flush() error {
	f := &c.flow
	if len(f.buffer) == 0 {
		return nil
	}
	err := c.send(f.buffer)
	f.buffer = nil // idle clients hold none
	return err
}

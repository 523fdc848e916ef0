package testkit

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy in front of a target that can be cut, stalled and
// resumed, as a bad link would be. Its methods may be called from any
// goroutine.
type Proxy struct {
	target string
	listen net.Listener

	mu      sync.Mutex
	state   proxyState
	changed chan struct{} // closed, and made anew, when state changes
	conns   map[net.Conn]struct{}
	every   int64 // bytes after which a connection breaks; 0: none does
	rate    int   // bytes a second each way; 0: as fast as it goes
	carried Carried
	wg      sync.WaitGroup
}

// Carried is what went over a proxy. The bytes are those of TCP's payload.
type Carried struct {
	Up, Down int64 // from the clients to the target, and back
	Links    int   // connections made
	Cuts     int   // that broke because of CutEvery
}

type proxyState int

const (
	proxyOpen proxyState = iota
	proxyStalled
	proxyCut
	proxyClosed
)

// NewProxy starts a proxy on a free loopback port before target (host:port),
// which need not be there yet. It is closed at the end of the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, listen: l, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		p.set(proxyClosed)
		l.Close()
		p.wg.Wait()
	})
	return p
}

// Addr is the address that clients dial, host:port. It stays the same.
func (p *Proxy) Addr() string { return p.listen.Addr().String() }

// Cut closes every connection and refuses new ones until Resume.
func (p *Proxy) Cut() { p.set(proxyCut) }

// Stall keeps connections open, takes new ones, and forwards nothing until
// Resume: what a peer sends waits in the sockets' buffers.
func (p *Proxy) Stall() { p.set(proxyStalled) }

// Resume forwards again. What was cut stays cut; what was stalled goes on
// where it stopped.
func (p *Proxy) Resume() { p.set(proxyOpen) }

// CutEvery makes each connection from now on break after it carried so many
// bytes, both ways together, to the byte; the next one is let in at once. 0
// ends that.
func (p *Proxy) CutEvery(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.every = bytes
}

// Slow makes every connection carry so many bytes a second at most, each way; 0
// ends that.
func (p *Proxy) Slow(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = bytes
}

// pace waits as long as a slow link takes for n bytes.
func (p *Proxy) pace(n int) {
	p.mu.Lock()
	rate := p.rate
	p.mu.Unlock()
	if rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
	}
}

// Carried says what went over it so far.
func (p *Proxy) Carried() Carried {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.carried
}

// pair is one connection of a client with its twin to the target.
type pair struct {
	client, server net.Conn
	left           int64 // bytes until it breaks; -1: it does not
}

// take is how many of n bytes from one side may go on, and counts them. Where
// they are the last, the connection breaks after them.
func (p *Proxy) take(c *pair, up bool, n int) (may int, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.left >= 0 {
		if c.left == 0 {
			return 0, false // it is broken already
		}
		n = int(min(int64(n), c.left))
		c.left -= int64(n)
		if last = c.left == 0; last {
			p.carried.Cuts++
		}
	}
	if up {
		p.carried.Up += int64(n)
	} else {
		p.carried.Down += int64(n)
	}
	return n, last
}

func (p *Proxy) broken(c *pair) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.left == 0
}

func (p *Proxy) set(s proxyState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == proxyClosed {
		return
	}
	p.state = s
	close(p.changed)
	p.changed = make(chan struct{})
	if s == proxyCut || s == proxyClosed {
		for c := range p.conns {
			reset(c)
		}
	}
}

// reset closes at once, without sending what is buffered.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

// add remembers a connection to be cut later: false when it is refused.
func (p *Proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state >= proxyCut {
		reset(c)
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// open waits while the proxy is stalled: false when it was cut.
func (p *Proxy) open() bool {
	for {
		p.mu.Lock()
		state, changed := p.state, p.changed
		p.mu.Unlock()
		if state != proxyStalled {
			return state == proxyOpen
		}
		<-changed
	}
}

func (p *Proxy) accept() {
	for {
		c, err := p.listen.Accept()
		if err != nil {
			return
		}
		if p.add(c) {
			p.wg.Go(func() { p.serve(c) })
		}
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.drop(client)
	if !p.open() {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil || !p.add(server) {
		return
	}
	defer p.drop(server)
	c := &pair{client: client, server: server, left: -1}
	p.mu.Lock()
	if p.every > 0 {
		c.left = p.every
	}
	p.carried.Links++
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.forward(c, true) })
	p.forward(c, false)
	both.Wait()
}

// forward copies one way until either side ends, and then ends the other.
func (p *Proxy) forward(c *pair, up bool) {
	to, from := c.client, c.server
	if up {
		to, from = from, to
	}
	defer func() {
		from.Close()
		if !p.broken(c) { // else what was carried may be on its way yet
			to.Close()
		}
	}()
	buf := make([]byte, 32<<10)
	for {
		if !p.open() {
			return
		}
		n, err := from.Read(buf)
		// A read that waited may return in the middle of a stall.
		if n > 0 {
			if !p.open() {
				return
			}
			may, last := p.take(c, up, n)
			if may == 0 {
				continue // to nobody: the link is broken
			}
			p.pace(may)
			if _, err := to.Write(buf[:may]); err != nil {
				return
			}
			if last { // what was carried arrives, and nothing else does
				for _, end := range []net.Conn{to, from} {
					_ = end.(*net.TCPConn).CloseWrite()
				}
			}
		}
		if err != nil {
			return
		}
	}
}

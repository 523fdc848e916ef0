package testkit

import (
	"net"
	"sync"
	"testing"
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
	wg      sync.WaitGroup
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
	var both sync.WaitGroup
	both.Go(func() { p.forward(server, client) })
	p.forward(client, server)
	both.Wait()
}

// forward copies until either side ends, and then ends the other.
func (p *Proxy) forward(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
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
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

type tap struct {
	filters []string
	handle  func(Message)
}

// Server is the broker. All methods may be called from many goroutines.
type Server struct {
	log     zerolog.Logger
	mqtt    *mqtt.Server
	rules   atomic.Pointer[rules]
	limits  atomic.Pointer[LimitsConfig]
	taps    atomic.Pointer[[]*tap]
	refusal *reasons
	cut     *reasons
	drop    *reasons
	ready   chan struct{}

	intake sync.RWMutex // held for reading while a message of a client is handed on
	held   bool

	order atomic.Int64 // stamps given

	retained sync.RWMutex // held while a topic's retained message changes, or all are read

	mu    sync.Mutex
	cfg   Config
	addrs []string
	conns map[*conn]struct{}
	ids   map[string]*conn // client ids in use, from the password on
	open  int              // sockets, from accept on
	ended bool
	wg    sync.WaitGroup
}

// sessionSeconds is how long the session of a client that is away is kept.
const sessionSeconds = 24 * 60 * 60

// New makes a broker that listens once it runs. reg may be nil.
func New(cfg Config, log zerolog.Logger, reg prometheus.Registerer) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r, err := newRules(cfg)
	if err != nil {
		return nil, err
	}
	cfg.Limits = cfg.Limits.filled()
	s := &Server{log: log, cfg: cfg, ready: make(chan struct{}), conns: map[*conn]struct{}{}, ids: map[string]*conn{}}
	s.rules.Store(r)
	s.limits.Store(&cfg.Limits)
	s.refusal = newReasons(log, zerolog.WarnLevel, prometheus.CounterOpts{Name: "edgegateway_broker_refused_total", Help: "What clients were refused, by reason."}, "refused a ", refusals)
	s.cut = newReasons(log, zerolog.InfoLevel, prometheus.CounterOpts{Name: "edgegateway_broker_cut_total", Help: "Connections cut, by reason."}, "connection cut: ", cuts)
	s.cut.all["panic"].level = zerolog.ErrorLevel // a defect
	s.drop = newReasons(log, zerolog.WarnLevel, prometheus.CounterOpts{Name: "edgegateway_broker_dropped_total", Help: "Messages that did not go to a subscriber, by reason."}, "message dropped: ", losses)
	connected := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "edgegateway_broker_clients", Help: "Clients that are connected."}, func() float64 { return float64(s.Clients()) })
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	for _, c := range []prometheus.Collector{s.refusal.counter, s.cut.counter, s.drop.counter, connected} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumPacketSize = uint32(cfg.Limits.MaxPacketBytes)
	caps.MaximumInflight = 65535 // flow bounds it, and waits where the library would drop
	caps.MaximumClientWritesPending = queueLength
	caps.MaximumQos = 2 // MQTT 3.1.1 cannot be told of less, and a PUBACK is no answer to it
	caps.TopicAliasMaximum = 0
	caps.MaximumSessionExpiryInterval = sessionSeconds
	caps.MaximumMessageExpiryInterval = 0 // retained messages stay, unless their publisher named a time
	caps.MinimumProtocolVersion = 4
	caps.Compatibilities.NoInheritedPropertiesOnAck = true
	// The library's log lines can hold whole packets: what matters is logged here.
	s.mqtt = mqtt.New(&mqtt.Options{Capabilities: caps, InlineClient: true, ClientNetWriteBufferSize: 1, SysTopicResendInterval: 30, Logger: slog.New(slog.DiscardHandler)})
	if _, err := queueOf(s.mqtt.NewClient(nil, "", "", true)); err != nil {
		return nil, err
	}
	if err := s.mqtt.AddHook(&hook{s: s}, nil); err != nil {
		return nil, err
	}
	return s, nil
}

// Ready is closed when all listeners are open.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addrs are the open listeners: "tcp://127.0.0.1:1883".
func (s *Server) Addrs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.addrs)
}

// Clients is the number of connected clients.
func (s *Server) Clients() int { return int(atomic.LoadInt64(&s.mqtt.Info.ClientsConnected)) }

// Run serves until ctx ends. It is called once.
func (s *Server) Run(ctx context.Context) error {
	var open []net.Listener
	closeAll := func() {
		for _, l := range open {
			l.Close()
		}
	}
	s.mu.Lock()
	cfgs := s.cfg.Listeners
	s.mu.Unlock()
	var addrs []string
	for i, lc := range cfgs {
		kind, addr, err := lc.kind()
		if err != nil {
			closeAll()
			return err
		}
		network := "tcp"
		if kind == "unix" {
			network = "unix"
		}
		if kind == "unix" {
			removeStale(addr)
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			closeAll()
			return fmt.Errorf("listeners[%d].%s: %w", i, kind, err)
		}
		scheme := map[string]string{"tcp": "tcp", "websocket": "ws", "unix": "unix"}[kind]
		if lc.TLS != nil {
			t, err := lc.TLS.load()
			if err != nil {
				l.Close()
				closeAll()
				return fmt.Errorf("listeners[%d].tls: %w", i, err)
			}
			l = tls.NewListener(l, t)
			scheme = map[string]string{"tcp": "ssl", "ws": "wss", "unix": "unix"}[scheme]
		}
		open = append(open, l)
		addrs = append(addrs, scheme+"://"+l.Addr().String())
	}
	if err := s.mqtt.Serve(); err != nil {
		closeAll()
		return err
	}
	s.mu.Lock()
	s.addrs = addrs
	s.mu.Unlock()
	var accepts sync.WaitGroup
	for i, l := range open {
		accepts.Go(func() { s.accept(l, cfgs[i].WebSocket != "") })
	}
	close(s.ready)
	<-ctx.Done()
	s.mu.Lock()
	s.ended = true
	for c := range s.conns {
		c.socket.Close()
		c.Close()
	}
	s.mu.Unlock()
	closeAll()
	accepts.Wait()
	s.wg.Wait()
	return s.mqtt.Close()
}

// removeStale removes the socket that a killed process left.
func removeStale(path string) {
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSocket == 0 {
		return
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		os.Remove(path) // where it stays, listening says why
	}
}

func (s *Server) accept(l net.Listener, ws bool) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: they come back
			s.cut.add("accept", about{}, err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		lim := s.limits.Load()
		w := newConn(c, lim)
		s.mu.Lock()
		full := s.ended || s.open >= lim.Connections
		if !full {
			s.open++
			s.conns[w] = struct{}{}
			s.wg.Add(1)
		}
		s.mu.Unlock()
		if full {
			s.cut.add("connections", w.about(), nil)
			c.Close()
			continue
		}
		go s.serve(w, ws, lim)
	}
}

// serve is one connection's life; a panic ends it alone.
func (s *Server) serve(w *conn, ws bool, lim *LimitsConfig) {
	raw := w.Conn
	defer s.wg.Done()
	defer func() {
		p := recover()
		raw.Close()
		w.release()
		if p != nil {
			s.cut.add("panic", w.about(), fmt.Errorf("panic: %v", p))
			s.abandon(w)
		}
		if cl := w.client.Load(); cl != nil { // where it ended before it was resumed
			w.putBack(cl)
		}
		s.mu.Lock()
		delete(s.conns, w)
		if s.ids[w.clientID] == w {
			delete(s.ids, w.clientID)
		}
		s.open--
		s.mu.Unlock()
		close(w.ended)
	}()
	deadline := time.Now().Add(lim.ConnectTimeout)
	if raw.SetDeadline(deadline) != nil {
		return
	}
	name, err := commonName(raw)
	if err != nil {
		s.cut.add("tls", w.about(), err)
		return
	}
	w.commonName = name
	if ws {
		up, err := upgrade(raw)
		if err != nil {
			s.cut.add("websocket", w.about(), err)
			return
		}
		s.mu.Lock()
		w.Conn = up
		s.mu.Unlock()
		if w.SetReadDeadline(deadline) != nil { // the upgrade took it away
			return
		}
	}
	err = s.mqtt.EstablishConnection("edgegateway", w)
	if reason := w.cause(err); reason != "" {
		s.cut.add(reason, w.about(), err)
	}
}

// upgrade answers one WebSocket handshake on a connection that is at hand. Its
// messages have no bound in length: they are read as a stream, and one may hold
// many packets, which have one.
func upgrade(c net.Conn) (*wsConn, error) {
	up := websocket.Upgrader{Subprotocols: []string{"mqtt"}} // a browser page of another origin is refused
	hj, req, err := readUpgrade(c)
	if err != nil {
		return nil, err
	}
	w, err := up.Upgrade(hj, req, http.Header{})
	if err != nil {
		return nil, err
	}
	return &wsConn{Conn: w}, nil
}

// claim binds a client id to a user while a connection or a session has it, and
// gives the connection that has it now, nil where none has.
func (s *Server) claim(id, user string, c *conn) (before *conn, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.ids[id]; ok && o.user != user {
		return nil, false
	}
	if cl, ok := s.mqtt.Clients.Get(id); ok {
		if o, ok := cl.Net.Conn.(*conn); !ok || o.user != user {
			return nil, false
		}
	}
	before = s.ids[id]
	c.user, c.clientID = user, id
	s.ids[id] = c
	return before, true
}

// succeed ends the connection that had a client id before and waits until the
// library has cleared up behind it: it does so by the id, and would take
// subscriptions and session of the one that comes. It is false where that
// takes too long.
func (s *Server) succeed(c, before *conn) bool {
	if cl := before.client.Load(); cl != nil {
		_ = s.mqtt.DisconnectClient(cl, packets.ErrSessionTakenOver) // it may be gone already
	} else {
		before.cut("taken_over")
	}
	late := time.NewTimer(s.limits.Load().ConnectTimeout)
	defer late.Stop()
	select {
	case <-before.ended:
		return true
	case <-c.gone:
	case <-late.C:
	}
	return false
}

// Publish sends to subscribers without a client; the payload must not change after.
func (s *Server) Publish(topic string, payload []byte, qos byte, retain bool) error {
	if err := ValidTopic(topic); err != nil {
		return err
	}
	return s.mqtt.Publish(topic, payload, retain, min(qos, 1))
}

// Tap calls handle for what clients publish to the filters, on the publisher's
// goroutine and before its acknowledgement: a slow handle slows that publisher.
func (s *Server) Tap(filters []string, handle func(Message)) (remove func(), err error) {
	for _, f := range filters {
		if err := ValidFilter(f); err != nil {
			return nil, err
		}
	}
	t := &tap{slices.Clone(filters), handle}
	change := func(f func([]*tap) []*tap) {
		s.mu.Lock()
		defer s.mu.Unlock()
		var now []*tap
		if p := s.taps.Load(); p != nil {
			now = slices.Clone(*p)
		}
		now = f(now)
		s.taps.Store(&now)
	}
	change(func(l []*tap) []*tap { return append(l, t) })
	return func() {
		change(func(l []*tap) []*tap { return slices.DeleteFunc(l, func(x *tap) bool { return x == t }) })
	}, nil
}

// Hold is the first step of a clean stop: it returns when what clients have
// published so far is handed on, and from then on their messages are neither
// handed on nor acknowledged, so that they send them again elsewhere or later.
// Publishing without a client goes on, and so do subscriptions.
func (s *Server) Hold() {
	s.intake.Lock()
	s.held = true
	s.intake.Unlock()
}

// Reload puts users, anonymous and limits into force, and cuts the sessions
// and subscriptions that they refuse.
func (s *Server) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	r, err := newRules(cfg)
	if err != nil {
		return err
	}
	cfg.Limits = cfg.Limits.filled()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch old := s.cfg; {
	case !reflect.DeepEqual(cfg.Listeners, old.Listeners):
		return errors.New("listeners: they cannot change while the broker runs, restart it")
	case cfg.Limits.MaxPacketBytes != old.Limits.MaxPacketBytes:
		return errors.New("limits.max_packet_bytes: it cannot change while the broker runs, restart it")
	case cfg.Limits.Inflight != old.Limits.Inflight:
		return errors.New("limits.inflight: it cannot change while the broker runs, restart it")
	}
	before := s.rules.Swap(r)
	s.limits.Store(&cfg.Limits)
	s.cfg = cfg
	for _, cl := range s.mqtt.Clients.GetAll() {
		c, ok := cl.Net.Conn.(*conn)
		if !ok {
			continue
		}
		now, ok := r.of(c.user, cl.ID, c.loopback)
		if !ok || before.secrets[c.user] != r.secrets[c.user] {
			now, ok = &rights{}, false
		}
		c.rights.Store(now)
		if w := &cl.Properties.Will; atomic.LoadUint32(&w.Flag) == 1 && !now.mayPublish(w.TopicName) {
			atomic.StoreUint32(&w.Flag, 0)
		}
		for f := range cl.State.Subscriptions.GetAll() {
			if !now.maySubscribe(f) {
				cl.State.Subscriptions.Delete(f)
				s.mqtt.Topics.Unsubscribe(f, cl.ID)
				ok = false
			}
		}
		if !ok {
			c.cut("reload")
		}
	}
	return nil
}

package broker

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"

	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// authority signs certificates into a folder.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.issue("ca", &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue writes name.pem and name.key, signed by itself where it is the first.
func (a *authority) issue(name string, c *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if a.cert == nil {
		a.cert, a.key = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".pem", "CERTIFICATE", der)
	a.write(name+".key", "PRIVATE KEY", private)
}

func (a *authority) write(name, kind string, der []byte) {
	if err := os.WriteFile(a.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) server() *authority {
	a.issue("server", &x509.Certificate{Subject: pkix.Name{CommonName: "gateway"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return a
}

func (a *authority) client(name string) *authority {
	a.issue(name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return a
}

// Every listener speaks both versions, with real clients of 3.1.1 and bytes of 5.
func TestListeners(t *testing.T) {
	a := newAuthority(t).server()
	secure := &TLSConfig{Cert: a.file("server.pem"), Key: a.file("server.key")}
	socket := filepath.Join(t.TempDir(), "mqtt.sock")
	s, _ := start(t, Config{Listeners: []ListenerConfig{
		{TCP: "127.0.0.1:0"}, {WebSocket: "127.0.0.1:0"}, {Unix: socket}, {TCP: "127.0.0.1:0", TLS: secure}, {WebSocket: "127.0.0.1:0", TLS: secure},
	}})
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	pem, err := os.ReadFile(a.file("ca.pem"))
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	trust := &tls.Config{RootCAs: roots}
	for i, scheme := range []string{"tcp", "ws", "unix", "ssl", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			url := s.Addrs()[i]
			kind, addr, _ := strings.Cut(url, "://")
			if kind != scheme {
				t.Fatalf("%s, want %s", url, scheme)
			}
			old, err := link.Connect(t.Context(), link.Config{URL: url, ClientID: "old-" + scheme, CA: a.file("ca.pem")})
			if err != nil {
				t.Fatal(err)
			}
			defer old.Close()
			got := make(chan link.Msg, 1)
			if err := old.Subscribe(t.Context(), []string{scheme + "/5"}, 1, func(m link.Msg) { got <- m }); err != nil {
				t.Fatal(err)
			}
			var c net.Conn
			switch scheme {
			case "tcp", "unix":
				c, err = net.Dial(scheme, addr)
			case "ssl":
				c, err = tls.Dial("tcp", addr, trust)
			default:
				var w *websocket.Conn
				d := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: trust}
				if w, _, err = d.Dial(url, nil); err == nil {
					if w.Subprotocol() != "mqtt" {
						t.Error("the protocol is not agreed on")
					}
					c = &wsConn{Conn: w}
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			five := &raw{c, t, bufio.NewReader(c)}
			five.send(hello{version: 5, id: "five"}.bytes())
			five.want(0x20)
			five.send(packet(0x82, 1, byte(0), scheme+"/4", byte(1)))
			five.want(0x90)
			body := strings.Repeat("picture", 20000)
			five.send(packet(0x32, scheme+"/5", 2, byte(0), []byte(body)))
			five.want(0x40)
			if m := <-got; string(m.Payload) != body || m.QoS != 1 {
				t.Errorf("%d bytes come at QoS %d", len(m.Payload), m.QoS)
			}
			if err := old.Publish(t.Context(), link.Msg{Topic: scheme + "/4", Payload: []byte(body), QoS: 1}); err != nil {
				t.Fatal(err)
			}
			if topic, payload := five.payload(true); topic != scheme+"/4" || payload != body {
				t.Errorf("%s, %d bytes", topic, len(payload))
			}
		})
	}
	program := testkit.Program(t, "mosquitto_pub")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for i, extra := range map[int][]string{0: nil, 2: {"--unix", socket}, 3: {"--cafile", a.file("ca.pem")}} {
			got := make(chan string, 1)
			remove, err := s.Tap([]string{"m"}, func(m Message) { got <- string(m.Payload) })
			if err != nil {
				t.Fatal(err)
			}
			args := append([]string{"-V", version, "-q", "1", "-t", "m", "-m", s.Addrs()[i]}, extra...)
			if i != 2 {
				_, port, _ := net.SplitHostPort(s.Addrs()[i][len("tcp://"):])
				args = append(args, "-h", "127.0.0.1", "-p", port)
			}
			if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
				t.Fatalf("mosquitto_pub %v: %v %s", args, err, out)
			}
			if m := <-got; m != s.Addrs()[i] {
				t.Errorf("%s comes", m)
			}
			remove()
		}
	}
}

// Where an authority of clients is named, its certificates are required, and
// their common names are users who need no password.
func TestClientCertificates(t *testing.T) {
	a, other := newAuthority(t).server().client("press7").client("stranger"), newAuthority(t).client("press7")
	s, err := New(Config{
		Listeners: []ListenerConfig{{TCP: "127.0.0.1:0", TLS: &TLSConfig{Cert: a.file("server.pem"), Key: a.file("server.key"), ClientCA: a.file("ca.pem")}}},
		Users:     map[string]UserConfig{"press7": {Publish: []string{"%u/#"}}, "ann": {Password: "x"}},
	}, zerolog.Nop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	try := func(from *authority, name, user, password string) error {
		cfg := link.Config{URL: s.Addrs()[0], ClientID: name + " as " + user, CA: a.file("ca.pem"), User: user, Password: password}
		if name != "" {
			cfg.Cert, cfg.Key = from.file(name+".pem"), from.file(name+".key")
		}
		c, err := link.Connect(t.Context(), cfg)
		if err == nil {
			c.Close()
		}
		return err
	}
	users := make(chan string, 1)
	if _, err := s.Tap([]string{"#"}, func(m Message) { users <- m.User }); err != nil {
		t.Fatal(err)
	}
	c, err := link.Connect(t.Context(), link.Config{URL: s.Addrs()[0], ClientID: "press", CA: a.file("ca.pem"), Cert: a.file("press7.pem"), Key: a.file("press7.key")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), link.Msg{Topic: "press7/x", QoS: 1}); err != nil {
		t.Error(err)
	}
	if u := <-users; u != "press7" {
		t.Errorf("the user is %q", u)
	}
	c.Close()
	for _, good := range [][3]string{{"press7", "press7", ""}, {"stranger", "ann", "x"}} {
		if err := try(a, good[0], good[1], good[2]); err != nil {
			t.Errorf("certificate of %s, user %q: %v", good[0], good[1], err)
		}
	}
	for _, bad := range []struct {
		from                 *authority
		name, user, password string
	}{{a, "", "", ""}, {a, "", "press7", ""}, {a, "", "ann", "x"}, {other, "press7", "press7", ""}, {a, "stranger", "", ""}, {a, "stranger", "press7", ""}, {a, "press7", "ann", ""}} {
		if try(bad.from, bad.name, bad.user, bad.password) == nil {
			t.Errorf("certificate %q, user %q: let in", bad.name, bad.user)
		}
	}
	eventually(t, "handshakes that failed are not counted", func() bool { return s.cutBy("tls") == 4 })
}

// A Unix socket that a killed process left is no hindrance; one that is in use,
// or another file, is.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mqtt.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	start(t, Config{Listeners: []ListenerConfig{{Unix: path}}})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, file} {
		s, err := New(Config{Listeners: []ListenerConfig{{Unix: path}}}, zerolog.Nop(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "listeners[0].unix: ") {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// What is no WebSocket, or no MQTT in it, ends and is counted.
func TestWebSocketRefuses(t *testing.T) {
	s, addr := start(t, Config{Listeners: []ListenerConfig{{WebSocket: "127.0.0.1:0"}}})
	addr = strings.TrimPrefix(addr, "ws://")
	c := dial(t, addr)
	c.send([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 Bad Request\r\n") {
		t.Errorf("%q, %v", answer, err)
	}
	head := dial(t, addr)
	_, _ = head.Write([]byte("GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n"))
	_, _ = io.ReadAll(head)
	eventually(t, "not counted", func() bool { return s.cutBy("websocket") == 2 })
	d := websocket.Dialer{Subprotocols: []string{"mqtt"}}
	if _, _, err := d.Dial("ws://"+addr, map[string][]string{"Origin": {"http://elsewhere"}}); err == nil {
		t.Error("a page of another origin is let in")
	}
	w, _, err := d.Dial("ws://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.WriteMessage(websocket.TextMessage, hello{id: "c"}.bytes()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.ReadMessage(); err == nil {
		t.Error("text is answered")
	}
	eventually(t, "text is not counted", func() bool { return s.cutBy("protocol") == 1 })
}

// Who opens a WebSocket and says nothing in it leaves in time too, and so does
// who reads nothing from it.
func TestSilentWebSocket(t *testing.T) {
	s, addr := start(t, Config{Listeners: []ListenerConfig{{WebSocket: "127.0.0.1:0"}}, Limits: LimitsConfig{ConnectTimeout: 200 * time.Millisecond}})
	w, _, err := websocket.DefaultDialer.Dial(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	(&raw{w.NetConn(), t, bufio.NewReader(w.NetConn())}).ended()
	eventually(t, "not counted", func() bool { return s.cutBy("connect_timeout") == 1 })
	stuck, _, err := websocket.DefaultDialer.Dial(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	c := &raw{&wsConn{Conn: stuck}, t, bufio.NewReader(&wsConn{Conn: stuck})}
	c.send(hello{id: "stuck"}.bytes())
	c.want(0x20)
	c.subscribe("big", 0)
	for s.cutBy("write_timeout") == 0 {
		if err := s.Publish("big", make([]byte, 512<<10), 0, false); err != nil {
			t.Fatal(err)
		}
	}
}

// A WebSocket message may hold many packets, and a packet may come in many
// messages: what is bounded is the packet.
func TestWebSocketMessages(t *testing.T) {
	s, addr := start(t, Config{Listeners: []ListenerConfig{{WebSocket: "127.0.0.1:0"}}, Limits: LimitsConfig{MaxPacketBytes: 10_000}})
	w, _, err := websocket.DefaultDialer.Dial(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn := &wsConn{Conn: w}
	defer conn.Close()
	c := &raw{conn, t, bufio.NewReader(conn)}
	for _, b := range (hello{id: "c"}).bytes() {
		c.send([]byte{b})
	}
	c.want(0x20)
	var many []byte
	for id := range 20 {
		many = append(many, packet(0x32, "a", id+1, make([]byte, 5000))...)
	}
	c.send(many)
	for id := range 20 {
		if body := c.want(0x40); body[1] != byte(id+1) {
			t.Errorf("PUBACK %x", body)
		}
	}
	c.send([]byte{0x30, 0xff, 0xff, 0x7f})
	c.ended()
	eventually(t, "the large packet is not counted", func() bool { return s.cutBy("packet_size") == 1 })
}

// run runs a broker until the test ends.
func run(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-s.Ready()
}

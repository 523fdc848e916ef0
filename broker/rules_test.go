package broker

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// may publishes at QoS 1 as an MQTT 5 client, which is told when it must not.
func (c *raw) mayPublish(topic string) bool {
	c.t.Helper()
	c.send(packet(0x32, topic, 5, byte(0), []byte("x")))
	body := c.want(0x40)
	return len(body) == 2 || body[2] < 0x80
}

func (c *raw) maySubscribe(filter string) bool {
	c.t.Helper()
	c.send(packet(0x82, 6, byte(0), filter, byte(0x20))) // no retained messages, please
	body := c.want(0x90)
	allowed := body[len(body)-1] < 0x80
	c.send(packet(0xa2, 7, byte(0), filter))
	c.want(0xb0)
	return allowed
}

// expect tries topics and filters; those behind a ! must be refused.
func (c *raw) expect(publish, subscribe string) {
	c.t.Helper()
	for _, s := range strings.Fields(publish) {
		if topic, no := strings.CutPrefix(s, "!"); c.mayPublish(topic) == no {
			c.t.Errorf("publish %s", s)
		}
	}
	for _, s := range strings.Fields(subscribe) {
		if filter, no := strings.CutPrefix(s, "!"); c.maySubscribe(filter) == no {
			c.t.Errorf("subscribe %s", s)
		}
	}
}

// What is not allowed is denied: wider filters, other levels, shared
// subscriptions to something else.
func TestRules(t *testing.T) {
	s, addr := start(t, Config{
		Users: map[string]UserConfig{
			"press7": {Password: "secret", Publish: []string{"factory/%u/#", "data", "by/%c/+"}, Subscribe: []string{"cmd/%c", "a/+", "a/+/x/#"}},
			"a/#":    {Password: "secret", Publish: []string{"u/%u"}, Subscribe: []string{"u/%u"}},
			"idle":   {Password: "secret"},
		},
	})
	as := func(user, id string) *raw {
		return connect(t, addr, hello{version: 5, id: id, user: user, password: "secret"})
	}
	as("press7", "c1").expect(
		"factory/press7 factory/press7/vibration !factory/press7/+ !factory/press8/vibration !factory !other data !data/x/y by/c1/x !by/c2/x !by/c1/x/y !$SYS/x",
		"cmd/c1 !cmd/c2 !cmd/+ !cmd/# !# a/+ a/b !a/# !a/b/c a/b/x/y a/+/x/# !+/b !$SYS/# $share/g/a/+ !$share/g/# !$SHARE/g/a/+ !factory/press7")
	as("press7", "#").expect("!by/#x/x !by/c1/x", "!cmd/# !cmd/x") // an id that is no level stands for nothing
	as("press7", "+").expect("", "!cmd/+ !cmd/x")
	as("press7", "a/b").expect("!by/a/b/x", "!cmd/a/b")
	as("a/#", "c2").expect("!u/a/x !u/a", "!u/a/# !u/a")
	as("idle", "c3").expect("!a !idle", "!a !#")
	// Deep names cost the broker the square of their levels.
	deep := strings.Repeat("a/", maxLevels)
	deepest := strings.TrimSuffix(deep, "/")
	as("press7", "c4").expect("factory/press7/"+deepest[4:]+" !factory/press7/"+deep, "a/b/x/"+deepest[6:]+" !a/b/x/"+deep)
	// An MQTT 3.1.1 client learns by its end that it must not publish; at QoS 0 nothing comes of it.
	c := connect(t, addr, hello{id: "old", user: "press7", password: "secret"})
	watch := make(chan Message, 8)
	if _, err := s.Tap([]string{"#"}, func(m Message) { watch <- m }); err != nil {
		t.Fatal(err)
	}
	if code := c.subscribe("#", 0); code != 0x80 {
		t.Errorf("SUBACK %#x", code)
	}
	c.send(packet(0x30, "other", []byte("x")), packet(0x30, "data", []byte("x")))
	c.sync()
	if m := <-watch; m.Topic != "data" || m.User != "press7" || m.ClientID != "old" {
		t.Errorf("handed on: %+v", m)
	}
	c.send(packet(0x32, "other", 1, []byte("x")))
	c.ended()
	if s.refusedBy("publish") == 0 || s.refusedBy("subscribe") == 0 {
		t.Error("what was refused is not counted")
	}
}

// Who may come without a name, and what may such a client do.
func TestAnonymous(t *testing.T) {
	users := map[string]UserConfig{"ann": {Password: "x"}}
	for _, c := range []struct {
		name               string
		users              map[string]UserConfig
		anonymous          *AnonymousConfig
		in                 bool
		publish, subscribe string
		beyond             bool // somebody of another machine is let in too
	}{
		{"no users", nil, nil, true, "a/b !$SYS/x !$other", "# a/+ $SYS/# $share/g/a", false},
		{"no users, the world", nil, &AnonymousConfig{BeyondLoopback: true}, true, "a/b !$SYS/x", "# $SYS/#", true},
		{"no users, rules", nil, &AnonymousConfig{Publish: []string{"a/#"}}, true, "a/b !b !$SYS/x", "!# !a", false},
		{"users", users, nil, false, "", "", false},
		{"users and rules", users, &AnonymousConfig{Publish: []string{"a/%c"}, Subscribe: []string{"b"}}, true, "a/c !b !a/d !$SYS/x", "b !a !# !$SYS/#", false},
		{"users, rules, the world", users, &AnonymousConfig{Publish: []string{"#"}, BeyondLoopback: true}, true, "b !$SYS/x", "!b", true},
		{"users, no rules", users, &AnonymousConfig{}, true, "!a !b", "!a !#", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, addr := start(t, Config{Users: c.users, Anonymous: c.anonymous})
			if !c.in {
				if code := refusedWith(t, addr, hello{id: "c"}); code != 5 {
					t.Errorf("code %d", code)
				}
				if n := s.refusedBy("identity"); n != 1 {
					t.Errorf("%d refused", n)
				}
				return
			}
			connect(t, addr, hello{version: 5, id: "c"}).expect(c.publish, c.subscribe)
			// The address of another machine's client, as near as one machine has it.
			other := ownAddress(t)
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: other}}
			conn, err := d.Dial("tcp", addr)
			if err != nil {
				t.Skipf("from %s to loopback: %v", other, err)
			}
			defer conn.Close()
			if _, err := conn.Write(hello{id: "far"}.bytes()); err != nil {
				t.Fatal(err)
			}
			var answer [4]byte
			if _, err := conn.Read(answer[:]); err != nil || (answer[3] == 0) != c.beyond {
				t.Errorf("from %s: CONNACK %x, %v", other, answer, err)
			}
		})
	}
}

// ownAddress is an address of this machine that is not loopback.
func ownAddress(t *testing.T) net.IP {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP
		}
	}
	t.Skip("this machine has no address but loopback")
	return nil
}

func TestPasswords(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("hashed"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	apache := strings.Replace(string(hash), "$2a$", "$2y$", 1) // as htpasswd -B writes it
	// For the user without a password there is a listener that asks for
	// certificates; by the other one nobody comes in so.
	a := newAuthority(t).server()
	listeners := []ListenerConfig{{TCP: "127.0.0.1:0"}, {TCP: "127.0.0.1:0", TLS: &TLSConfig{Cert: a.file("server.pem"), Key: a.file("server.key"), ClientCA: a.file("ca.pem")}}}
	s, addr := start(t, Config{Listeners: listeners, Users: map[string]UserConfig{
		"clear":  {PasswordFile: file("clear", "pass word\r\n", 0o600)},
		"hash":   {PasswordFile: file("hash", string(hash)+"\n", 0o644)},
		"apache": {PasswordFile: file("apache", apache, 0o644)},
		"inline": {Password: "plain"},
		"hashed": {Password: string(hash)},
		"none":   {},
	}})
	for _, c := range []struct{ user, password string }{
		{"clear", "pass word"}, {"hash", "hashed"}, {"apache", "hashed"}, {"inline", "plain"}, {"hashed", "hashed"},
	} {
		connect(t, addr, hello{id: "c" + c.user, user: c.user, password: c.password})
		wrong := []string{"", c.password + "x", strings.ToUpper(c.password), string(hash)}
		for _, password := range wrong {
			refusedWith(t, addr, hello{id: "w", user: c.user, password: password})
		}
	}
	before := s.refusedBy("password")
	for _, h := range []hello{{user: "none"}, {user: "none", password: "x"}, {user: "nobody"}, {user: "nobody", password: "x"}} {
		h.id = "w"
		refusedWith(t, addr, h)
	}
	if before != 20 || s.refusedBy("password") != 24 {
		t.Errorf("%d and %d refused", before, s.refusedBy("password"))
	}
}

func TestBadConfig(t *testing.T) {
	dir := t.TempDir()
	open, empty := filepath.Join(dir, "open"), filepath.Join(dir, "empty")
	for path, content := range map[string]string{open: "secret", empty: "\n"} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	user := func(u UserConfig) Config {
		c := DefaultConfig()
		c.Users = map[string]UserConfig{"ann": u}
		return c
	}
	listen := func(l ...ListenerConfig) Config { return Config{Listeners: l} }
	limits := func(l LimitsConfig) Config { c := DefaultConfig(); c.Limits = l; return c }
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{listen(), "listeners: there is none"},
		{listen(ListenerConfig{}), "listeners[0]: name one of tcp, websocket and unix, 0 are there"},
		{listen(ListenerConfig{TCP: "127.0.0.1:1883", Unix: "x"}), "2 are there"},
		{listen(ListenerConfig{TCP: "127.0.0.1"}), "listeners[0].tcp: "},
		{listen(ListenerConfig{TCP: "0.0.0.0:1883"}), "open to other machines: name `users`, or set `anonymous.beyond_loopback: true`"},
		{listen(ListenerConfig{TCP: ":1883"}), "open to other machines"},
		{listen(ListenerConfig{WebSocket: "[::]:9001"}), "listeners[0].websocket: [::]:9001 is open to other machines"},
		{Config{Listeners: []ListenerConfig{{TCP: "hall:1883"}}, Anonymous: &AnonymousConfig{Publish: []string{"#"}}}, "open to other machines"},
		{listen(ListenerConfig{TCP: "127.0.0.1:99999"}), "listeners[0].tcp: \"127.0.0.1:99999\" is no address and port"},
		{listen(ListenerConfig{TCP: "127.0.0.1:1883", TLS: &TLSConfig{Cert: "gone"}}), "listeners[0].tls: names no file for each of cert and key"},
		{listen(ListenerConfig{TCP: "127.0.0.1:1883", TLS: &TLSConfig{Cert: "gone", Key: "gone"}}), "listeners[0].tls: "},
		{listen(ListenerConfig{TCP: "127.0.0.1:1883"}, ListenerConfig{TCP: "127.0.0.1:1883"}), "listeners[1].tcp: 127.0.0.1:1883 is where listeners[0] listens already"},
		{listen(ListenerConfig{TCP: "127.0.0.1:1883"}, ListenerConfig{WebSocket: "localhost:1883"}), "listeners[1].websocket: "},
		{listen(ListenerConfig{TCP: "[::1]:1883"}, ListenerConfig{TCP: "[0:0::1]:1883"}), "listeners[1].tcp: "},
		{listen(ListenerConfig{Unix: "a.sock"}, ListenerConfig{Unix: "a.sock"}), "listeners[1].unix: "},
		{user(UserConfig{Publish: []string{"a"}}), "users.ann: has neither password_file nor password"},
		{user(UserConfig{PasswordFile: open}), "others may read it: chmod 600 " + open},
		{user(UserConfig{PasswordFile: empty}), "is empty"},
		{user(UserConfig{PasswordFile: filepath.Join(dir, "gone")}), "users.ann.password_file: "},
		{user(UserConfig{PasswordFile: open, Password: "x"}), "password is set too"},
		{user(UserConfig{Publish: []string{"a", "a/#/b"}}), "users.ann.publish[1]: "},
		{user(UserConfig{Subscribe: []string{""}}), "users.ann.subscribe[0]: "},
		{limits(LimitsConfig{Connections: -1}), "limits: a limit is negative"},
		{limits(LimitsConfig{Inflight: 70000}), "limits.inflight: 70000"},
		{limits(LimitsConfig{MaxPacketBytes: 1 << 30}), "limits.max_packet_bytes"},
	} {
		if err := c.cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
	for _, addr := range []string{"127.0.0.1:1883", "localhost:1883", "[::1]:1883", "127.9.9.9:1"} {
		if err := listen(ListenerConfig{TCP: addr}).Validate(); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	two := listen(ListenerConfig{TCP: "127.0.0.1:0"}, ListenerConfig{TCP: "127.0.0.1:0"}, ListenerConfig{TCP: "127.0.0.1:1883"}, ListenerConfig{TCP: "[::1]:1883"}, ListenerConfig{Unix: "a"}, ListenerConfig{Unix: "b"})
	if err := two.Validate(); err != nil {
		t.Error(err)
	}
	far := Config{Listeners: []ListenerConfig{{TCP: "0.0.0.0:1883"}}, Anonymous: &AnonymousConfig{BeyondLoopback: true}}
	if err := far.Validate(); err != nil {
		t.Error(err)
	}
}

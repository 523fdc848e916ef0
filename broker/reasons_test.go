package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/internal/testkit"
)

// lines is a log of JSON lines that is read while it is written.
type lines struct{ testkit.Buffer }

// of gives the first line with a reason.
func (l *lines) of(t *testing.T, reason string) map[string]any {
	t.Helper()
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if m["reason"] == reason {
			return m
		}
	}
	return nil
}

// Whoever wonders why a device does not get through finds it in the log: who
// came from where, what it wanted, and why not; its password never.
func TestRefusalsAreLogged(t *testing.T) {
	cfg := Config{
		Listeners: []ListenerConfig{{TCP: "127.0.0.1:0"}},
		Users: map[string]UserConfig{
			"press7": {Password: "rightsecret", Publish: []string{"factory/#"}, Subscribe: []string{"cmd/#"}},
			"panel":  {Password: "othersecret"},
		},
	}
	var log lines
	s, err := New(cfg, zerolog.New(&log), nil)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	addr := strings.TrimPrefix(s.Addrs()[0], "tcp://")
	press := hello{version: 5, id: "c7", user: "press7", password: "rightsecret"}
	for _, c := range []struct {
		reason, client, user, topic string
		do                          func()
	}{
		{"password", "c1", "press7", "", func() {
			refusedWith(t, addr, hello{id: "c1", user: "press7", password: "wrongsecret"})
		}},
		{"identity", "c2", "", "", func() { refusedWith(t, addr, hello{id: "c2"}) }},
		{"will", "c3", "press7", "other/gone", func() {
			refusedWith(t, addr, hello{id: "c3", user: "press7", password: "rightsecret", will: "other/gone"})
		}},
		{"client_id", "c7", "panel", "", func() {
			connect(t, addr, press)
			refusedWith(t, addr, hello{id: "c7", user: "panel", password: "othersecret"})
		}},
		{"publish", "c7", "press7", "other/x", func() { connect(t, addr, press).mayPublish("other/x") }},
		{"subscribe", "c7", "press7", "results/#", func() { connect(t, addr, press).maySubscribe("results/#") }},
	} {
		c.do()
		m := log.of(t, c.reason)
		if m == nil {
			t.Errorf("%s: no line in\n%s", c.reason, &log)
			continue
		}
		text := func(key string) string { s, _ := m[key].(string); return s }
		host, _, _ := net.SplitHostPort(text("remote"))
		if text("client") != c.client || text("user") != c.user || text("topic") != c.topic || host != "127.0.0.1" ||
			text("level") != "warn" || !strings.HasPrefix(text("message"), "refused a ") {
			t.Errorf("%s: %v", c.reason, m)
		}
		if s.refusedBy(c.reason) == 0 {
			t.Errorf("%s is not counted", c.reason)
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("a password is in the log:\n%s", &log)
	}
}

// What the broker looks at before its rules is told by its own name, not by
// what the rules were asked in its place. At QoS 0 no client learns of it.
func TestRefusedTopicIsNamed(t *testing.T) {
	deep := strings.Repeat("a/", maxLevels) + "a"
	for topic, want := range map[string]string{"$SYS/broker/load": "$SYS/broker/load", "a/+": "a/+", deep: deep[:200] + "..."} {
		var log lines
		s, err := New(Config{Listeners: []ListenerConfig{{TCP: "127.0.0.1:0"}}}, zerolog.New(&log), nil)
		if err != nil {
			t.Fatal(err)
		}
		run(t, s)
		c := connect(t, strings.TrimPrefix(s.Addrs()[0], "tcp://"), hello{version: 5, id: "c"})
		c.send(packet(0x30, topic, byte(0), []byte("x")))
		c.sync()
		if m := log.of(t, "publish"); m == nil || m["topic"] != want {
			t.Errorf("publish %s: %v", topic, m)
		}
		if topic == deep {
			c.maySubscribe(deep)
			if m := log.of(t, "subscribe"); m == nil || m["topic"] != want {
				t.Errorf("subscribe: %v", m)
			}
		}
	}
}

// However often it happens, a reason takes a line a second; each time counts.
func TestReasonsAreQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		r := newReasons(zerolog.New(&log), zerolog.WarnLevel, prometheus.CounterOpts{Name: "x"}, "refused: ", map[string]string{"a": "why a", "b": "why b"})
		for range 100 { // ten seconds of a, and b once
			r.add("a", about{client: "c", topic: "t"}, nil)
			time.Sleep(100 * time.Millisecond)
		}
		r.add("b", about{}, errors.New("this"))
		got := log.String()
		want := `{"level":"warn","reason":"a","client":"c","topic":"t","message":"refused: why a"}` + "\n" +
			strings.Repeat(`{"level":"warn","reason":"a","client":"c","topic":"t","since_last_line":9,"message":"refused: why a"}`+"\n", 9) +
			`{"level":"warn","reason":"b","error":"this","message":"refused: why b"}` + "\n"
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		if n := count(r.counter, "a"); n != 100 {
			t.Errorf("%d counted", n)
		}
	})
}

// Every reason that the code gives is one that is counted from the start, at
// 0, and is told in the documents; and there are no others.
func TestReasonsAreKnown(t *testing.T) {
	reg := prometheus.NewRegistry()
	if _, err := New(DefaultConfig(), zerolog.Nop(), reg); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	zero := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				zero[strings.TrimSuffix(strings.TrimPrefix(f.GetName(), "edgegateway_broker_"), "_total")+" "+l.GetValue()] = m.GetCounter().GetValue() == 0
			}
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil || strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`(refused|cut|cut\.add|dropped)\("(\w+)"`).FindAllSubmatch(b, -1) {
			given[strings.TrimSuffix(string(m[1]), ".add")+" "+string(m[2])] = true
		}
		for _, m := range regexp.MustCompile(`return "(\w+)"`).FindAllSubmatch(b, -1) { // cause
			if file == "conn.go" {
				given["cut "+string(m[1])] = true
			}
		}
	}
	if len(given) < 20 {
		t.Errorf("only %d reasons are found in the code", len(given))
	}
	docs, err := os.ReadFile("../docs/broker.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range given {
		if !zero[name] {
			t.Errorf("%s is not counted from the start", name)
		}
		if _, reason, _ := strings.Cut(name, " "); !bytes.Contains(docs, []byte("`"+reason+"`")) {
			t.Errorf("docs/broker.md does not tell of %s", name)
		}
	}
	for name := range zero {
		if !given[name] {
			t.Errorf("%s is counted, and nothing gives it", name)
		}
	}
}

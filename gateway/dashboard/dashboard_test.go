package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parts is a gateway whose state a test sets.
type parts struct {
	ready atomic.Bool
	ill   atomic.Bool
	asked chan struct{} // told of each look at the status, where it is not nil
	held  chan struct{} // a look at the status waits for it
}

func (p *parts) Ready() bool { return p.ready.Load() }

func (p *parts) Health() []Health {
	return []Health{{Part: "broker", OK: true}, {Part: "outbox cloud", OK: !p.ill.Load(), Detail: "no space left"}}
}

func (p *parts) Status() any {
	if p.asked != nil {
		p.asked <- struct{}{}
		<-p.held
	}
	return map[string]string{"gateway": "hall-7"}
}

// serve runs a server on a free port until the test ends.
func serve(t *testing.T, p *parts, reg *prometheus.Registry) (base string, stop func() error) {
	t.Helper()
	s, err := New(Config{Listen: "127.0.0.1:0"}, p, reg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(cancel)
	return "http://" + s.Addr(), func() error { cancel(); return <-done }
}

func get(t *testing.T, method, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestPages(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	p, reg := &parts{}, prometheus.NewRegistry()
	seen := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "seen_total", Help: "Seen."}, []string{"reason"})
	seen.WithLabelValues("bad_json").Add(3)
	reg.MustRegister(seen)
	base, stop := serve(t, p, reg)
	for _, step := range []struct {
		ready, ill   bool
		method, path string
		code         int
		kind, want   string
	}{
		{false, false, "GET", "/readyz", 503, "application/json", `{"ready":false}`},
		{true, false, "GET", "/readyz", 200, "application/json", `{"ready":true}`},
		{true, false, "GET", "/healthz", 200, "application/json", `[{"part":"broker","ok":true},{"part":"outbox cloud","ok":true,"detail":"no space left"}]`},
		{true, true, "GET", "/healthz", 503, "application/json", `{"part":"outbox cloud","ok":false,"detail":"no space left"}`},
		{true, true, "GET", "/readyz", 200, "application/json", `{"ready":true}`},
		{true, false, "GET", "/metrics", 200, "text/plain", `seen_total{reason="bad_json"} 3`},
		{true, false, "GET", "/api/status", 200, "application/json", `{"gateway":"hall-7"}`},
		{true, false, "GET", "/", 200, "text/plain", "/healthz"},
		{true, false, "HEAD", "/healthz", 200, "application/json", ""},
		{true, false, "GET", "/nothing", 404, "text/plain", ""},
		{true, false, "POST", "/api/status", 405, "text/plain", ""},
		{true, false, "DELETE", "/healthz", 405, "text/plain", ""},
	} {
		p.ready.Store(step.ready)
		p.ill.Store(step.ill)
		resp, body := get(t, step.method, base+step.path)
		if resp.StatusCode != step.code || !strings.HasPrefix(resp.Header.Get("Content-Type"), step.kind) || !strings.Contains(body, step.want) {
			t.Errorf("%s %s (ready %v, ill %v): %d %s %s", step.method, step.path, step.ready, step.ill, resp.StatusCode, resp.Header.Get("Content-Type"), body)
		}
		if step.kind == "application/json" && step.method == "GET" && !json.Valid([]byte(body)) {
			t.Errorf("%s: no JSON: %s", step.path, body)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// An address that is taken is told by the name of its key; one that was only
// made, and never served, is free again when it is closed.
func TestAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Listen: taken.Addr().String()}
	if _, err := New(cfg, &parts{}, prometheus.NewRegistry(), zerolog.Nop()); err == nil || !strings.HasPrefix(err.Error(), "dashboard.listen: ") {
		t.Errorf("a taken address: %v", err)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s, err := New(cfg, &parts{}, prometheus.NewRegistry(), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}
}

// Stopping lets a page that is being made be read to its end, and does not
// wait for a client that says nothing.
func TestStop(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	p := &parts{asked: make(chan struct{}), held: make(chan struct{})}
	base, stop := serve(t, p, prometheus.NewRegistry())
	silent, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	body := make(chan string, 1)
	go func() {
		resp, err := http.Get(base + "/api/status")
		if err != nil {
			body <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			b = []byte(err.Error())
		}
		body <- string(b)
	}()
	<-p.asked
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for { // until the address is closed
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(base, "http://"), time.Second)
		if err != nil {
			break
		}
		c.Close()
	}
	close(p.held)
	if got := <-body; !strings.Contains(got, "hall-7") {
		t.Errorf("the page that was asked for before the stop: %s", got)
	}
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("a silent client holds it up")
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		cfg  Config
		want string // in the error; "" for none
	}{
		{DefaultConfig(), ""},
		{Config{}, ""},
		{Config{Listen: "localhost:80"}, ""},
		{Config{Listen: "[::1]:80"}, ""},
		{Config{Listen: "127.0.0.9:80"}, ""},
		{Config{Listen: "9464"}, "listen: "},
		{Config{Listen: "0.0.0.0:9464"}, "beyond_loopback"},
		{Config{Listen: ":9464"}, "beyond_loopback"},
		{Config{Listen: "192.168.1.5:9464"}, "beyond_loopback"},
		{Config{Listen: "hall:9464"}, "beyond_loopback"},
		{Config{Listen: "0.0.0.0:9464", BeyondLoopback: true}, ""},
	} {
		err := tt.cfg.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: %v, want %q", tt.cfg, err, tt.want)
		}
	}
}

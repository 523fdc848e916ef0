package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// withOutputs runs an engine with one rule over v and gives its counter of
// what was not brought out: by output and reason.
func withOutputs(t *testing.T, w *world, change func(*Config)) (e *Engine, lost func(output, reason string) float64, stop func()) {
	t.Helper()
	reg := prometheus.NewRegistry()
	e, err := New(rule1(change), fieldsV, t.TempDir(), w, zerolog.Nop(), reg)
	if err != nil {
		t.Fatal(err)
	}
	stop = running(t, e)
	t.Cleanup(stop)
	return e, func(output, reason string) (n float64) {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				labels := map[string]string{}
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = l.GetValue()
				}
				if f.GetName() == "edgegateway_alert_outputs_failed_total" && labels["output"] == output && labels["reason"] == reason {
					n += m.GetCounter().GetValue()
				}
			}
		}
		return n
	}, stop
}

// until waits for what another goroutine does.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited long enough", what)
		}
	}
}

func TestPublish(t *testing.T) {
	w := &world{refuse: errors.New("no topic")}
	e, lost, stop := withOutputs(t, w, func(c *Config) {
		c.Publish = []PublishConfig{
			{Topic: "lamp/{{.Source}}/set", Payload: `{"state":"{{if eq .State "cleared"}}OFF{{else}}ON{{end}}"}`, Retain: true, On: []string{Raised, Cleared}},
			{Topic: "siren", Payload: "{{json .Source}}"},
			{Topic: "bad", Payload: "{{.NoSuch}}"},
		}
	})
	feed(e, reading("door", 11))
	feed(e, reading("door", 1))
	stop()
	got := map[string]int{}
	for _, l := range w.local {
		got[l]++
	}
	want := map[string]int{`lamp/door/set {"state":"ON"} true`: 1, `lamp/door/set {"state":"OFF"} true`: 1, `siren "door" false`: 1}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if n := lost("publish", "failed"); n != 4 { // three that the broker refused, one template
		t.Errorf("%v failed", n)
	}
}

// A real server: what it gets, a second try after a busy answer, none after
// a refusal, and the end of a server that never answers.
func TestWebhook(t *testing.T) {
	type request struct{ method, path, auth, body string }
	got := make(chan request, 16)
	busy := make(chan struct{}, 1)
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- request{r.Method, r.URL.Path, r.Header.Get("Authorization"), string(b)}
		switch r.URL.Path {
		case "/busy":
			select {
			case busy <- struct{}{}:
				rw.WriteHeader(http.StatusServiceUnavailable)
			default:
			}
		case "/refuse":
			rw.WriteHeader(http.StatusForbidden)
		case "/hang":
			<-hang
		case "/away":
			http.Redirect(rw, r, "ftp://elsewhere/", http.StatusTemporaryRedirect)
		}
	}))
	defer srv.Close()
	defer close(hang)
	w := &world{}
	e, lost, _ := withOutputs(t, w, func(c *Config) {
		c.Webhook = []WebhookConfig{
			{URL: srv.URL + "/plain", Headers: map[string]string{"Authorization": "Bearer x"}},
			{URL: srv.URL + "/busy", Method: http.MethodPut, Body: `{{.Alert}} {{.Source}}`},
			{URL: srv.URL + "/refuse"}, {URL: srv.URL + "/away"},
			{URL: srv.URL + "/hang", Timeout: time.Second}, // time for the request itself, on a busy machine too
		}
	})
	feed(e, reading("door", 11))
	until(t, "three failures", func() bool { return lost("webhook", "failed") == 3 })
	until(t, "six requests", func() bool { return len(got) == 6 })
	count := map[string]int{}
	for range 6 {
		r := <-got
		count[r.path]++
		switch r.path {
		case "/plain":
			var ev Event
			if err := json.Unmarshal([]byte(r.body), &ev); err != nil || ev.ID != w.all()[0].ID || ev.State != Raised || r.method != http.MethodPost || r.auth != "Bearer x" {
				t.Errorf("%+v: %v", r, err)
			}
		case "/busy":
			if r.method != http.MethodPut || r.body != "hot door" {
				t.Errorf("%+v", r)
			}
		}
	}
	if d := cmp.Diff(map[string]int{"/plain": 1, "/busy": 2, "/refuse": 1, "/away": 1, "/hang": 1}, count); d != "" {
		t.Error(d)
	}
}

// A slow output fills its own queue and nothing else; what finds no room is
// counted, and so is what is left when the gateway stops.
func TestQueueBounded(t *testing.T) {
	began, release := make(chan struct{}, 1), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case began <- struct{}{}:
		default:
		}
		<-release
	}))
	defer srv.Close()
	defer close(release)
	w := &world{}
	e, lost, stop := withOutputs(t, w, func(c *Config) {
		c.Webhook = []WebhookConfig{{URL: srv.URL, Timeout: time.Hour}}
		c.Publish = []PublishConfig{{Topic: "quick", Payload: "x"}}
	})
	feed(e, reading("a", 11))
	<-began
	const more = 5
	for i := range outputQueue + more {
		if i%16 == 0 { // events are told many at once, and the quick queue is bounded too
			until(t, "the quick output", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.local) == i+1 })
		}
		feed(e, reading(fmt.Sprint(i), 11))
	}
	stop()
	if n := lost("webhook", "queue_full"); n != more {
		t.Errorf("%v found no room, want %d", n, more)
	}
	if f, s := lost("webhook", "failed"), lost("webhook", "stopped"); f != 1 || s != outputQueue {
		t.Errorf("%v failed, %v were left", f, s)
	}
	if n := len(w.local); n != outputQueue+more+1 {
		t.Errorf("%d by the quick one", n)
	}
}

// What waits when the gateway stops is sent, where the other end is there.
func TestOutputsFinish(t *testing.T) {
	w := &world{}
	e, _, stop := withOutputs(t, w, func(c *Config) { c.Publish = []PublishConfig{{Topic: "t", Payload: "x"}} })
	for i := range 40 {
		feed(e, reading(fmt.Sprint(i), 11))
	}
	stop()
	if len(w.local) != 40 {
		t.Errorf("%d sent", len(w.local))
	}
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nprintf '%s|%s|%s|%s|%s' \"$1\" \"$EDGEGATEWAY_ALERT\" \"$EDGEGATEWAY_SOURCE\" \"$EDGEGATEWAY_STATE\" \"$SECRET\" > '"+out+".new'\ncat >> '"+out+".new'\nmv '"+out+".new' '"+out+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SECRET", "hidden")
	w := &world{}
	e, lost, _ := withOutputs(t, w, func(c *Config) {
		c.Command = []CommandConfig{
			{Run: []string{script, "{{.Source}}"}},
			{Run: []string{"false"}},
			{Run: []string{"/nonexistent/program"}},
		}
	})
	const evil = `"; touch pwned; $(touch pwned) '`
	feed(e, reading(evil, 11))
	var b []byte
	until(t, "the command", func() bool { var err error; b, err = os.ReadFile(out); return err == nil })
	args, event, _ := strings.Cut(string(b), "|hot|"+evil+"|raised|")
	var ev Event
	if err := json.Unmarshal([]byte(event), &ev); err != nil || args != evil || ev.ID != w.all()[0].ID {
		t.Errorf("%s: %v", b, err)
	}
	until(t, "two failures", func() bool { return lost("command", "failed") == 2 })
}

// At the limit the program goes with all it started, also where it let them
// go on without it.
func TestCommandKilled(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"hangs", "sleep 1000 & echo $! > %s.new; mv %[1]s.new %[1]s; wait", "ended at its time limit"},
		{"leaves one behind", "sleep 1000 & echo $! > %s.new; mv %[1]s.new %[1]s; exit 0", "WaitDelay"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pid := filepath.Join(t.TempDir(), "pid")
			cmd := CommandConfig{Run: []string{"sh", "-c", fmt.Sprintf(c.script, pid)}}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- cmd.start(ctx, &Event{}) }()
			var b []byte
			until(t, "the child", func() bool { var err error; b, err = os.ReadFile(pid); return err == nil })
			n, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			if c.name == "hangs" {
				cancel()
			}
			if err := <-done; err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			until(t, "the end of the child", func() bool { return ended(n) })
		})
	}
}

// ended says whether a process is gone, or dead and not yet collected by
// whoever inherited it.
func ended(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// What a command says is kept to a bound.
func TestCommandTalks(t *testing.T) {
	err := CommandConfig{Run: []string{"sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' x; exit 3"}}.start(t.Context(), &Event{})
	if err == nil || !strings.Contains(err.Error(), "exit status 3: xxx") || len(err.Error()) > 400 {
		t.Errorf("%.500v", err)
	}
}

// Nothing runs before Run, so that a configuration that is only prepared
// leaves nothing behind (goleak looks after each test).
func TestNothingStartsEarly(t *testing.T) {
	rules := rule1(func(c *Config) { c.Publish = []PublishConfig{{Topic: "t"}} })
	e, err := New(rules, fieldsV, t.TempDir(), &world{}, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Prepare(rules, fieldsV); err != nil {
		t.Fatal(err)
	}
}

// A line about an output that failed tells which one it is, and no secret.
func TestFailureNamesItsOutput(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	var out bytes.Buffer
	e, err := New(rule1(func(c *Config) {
		c.Publish = []PublishConfig{{Topic: "siren/{{.Source}}"}}
		c.Webhook = []WebhookConfig{
			{URL: server.URL + "/first"},
			{URL: strings.Replace(server.URL, "://", "://me:secret@", 1) + "/hook/secret0123456789abc/x?key=secret"},
		}
		c.Command = []CommandConfig{{Run: []string{"/nowhere/siren", "secret"}}}
	}), fieldsV, t.TempDir(), &world{refuse: errors.New("no topic")}, zerolog.New(zerolog.SyncWriter(&out)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	stop := running(t, e)
	feed(e, reading("door", 11))
	stop()
	var got []string
	for dec := json.NewDecoder(&out); dec.More(); {
		var l struct {
			Alert, Output, URL, Topic, Command, Error string
			Index                                     int
		}
		if err := dec.Decode(&l); err != nil {
			t.Fatal(err)
		}
		if l.Output != "" {
			got = append(got, fmt.Sprintf("%s %s %d %s", l.Alert, l.Output, l.Index, l.URL+l.Topic+l.Command))
		}
		if strings.Contains(l.URL+l.Topic+l.Command+l.Error, "secret") {
			t.Errorf("it tells a secret: %+v", l)
		}
	}
	slices.Sort(got)
	want := []string{"hot command 0 /nowhere/siren", "hot publish 0 siren/{{.Source}}", "hot webhook 0 " + server.URL + "/first", "hot webhook 1 " + server.URL + "/hook/.../x"}
	if !slices.Equal(got, want) {
		t.Errorf("the log has\n%q\nwant\n%q", got, want)
	}
}

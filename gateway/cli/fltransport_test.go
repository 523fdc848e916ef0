package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"edgegateway/fl"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// flLink is a transport at work; its subscription gives what comes.
func flLink(t *testing.T, addr, id string) *flTransport {
	t.Helper()
	tr := newFLTransport(link.Config{URL: "tcp://" + addr, ClientID: id, Timeout: 5 * time.Second}, func(s string) { t.Log(id + ": " + s) })
	tr.first, tr.most = 10*time.Millisecond, 200*time.Millisecond
	ctx, stop := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { tr.run(ctx) })
	t.Cleanup(func() { stop(); ended.Wait() })
	return tr
}

const flPatience = 30 * time.Second

func soon[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(flPatience):
		t.Fatalf("%s did not come", what)
		panic("")
	}
}

// mosquittoConf is a configuration file for a broker at an address.
func mosquittoConf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf
}

// A broker that is away at first, is killed, and comes back having forgotten
// everything: both sides find each other again, with the same subscription.
func TestFLTransportKilledBroker(t *testing.T) {
	program := testkit.Program(t, "mosquitto")
	addr := testkit.FreeAddr(t)
	conf := mosquittoConf(t, addr)
	broker := func() *testkit.Process {
		p := testkit.Start(t, exec.Command(program, "-c", conf))
		p.Line("running")
		return p
	}

	a, b := flLink(t, addr, "a"), flLink(t, addr, "b")
	if err := a.Publish(t.Context(), fl.Message{Topic: "fl/x/task"}); !errors.Is(err, fl.ErrNoLink) {
		t.Fatalf("without a broker: %v", err)
	}
	if _, err := a.Get(t.Context(), "fl/x/task"); !errors.Is(err, fl.ErrNoLink) {
		t.Fatalf("without a broker: %v", err)
	}
	got := make(chan fl.Message, 100)
	if err := b.Subscribe(t.Context(), []string{"fl/+/task", "fl/x/to/b"}, func(m fl.Message) { got <- m }); err != nil {
		t.Fatal(err)
	}
	for life := range 3 {
		p := broker()
		soon(t, "the link of a", a.Link())
		soon(t, "the link of b", b.Link())
		for n, topic := range []string{"fl/x/task", "fl/x/to/b"} {
			want := fmt.Sprint("life ", life, " message ", n)
			if err := a.Publish(t.Context(), fl.Message{Topic: topic, Payload: []byte(want), Retain: true}); err != nil {
				t.Fatal(err)
			}
			if m := soon(t, want, got); m.Topic != topic || string(m.Payload) != want {
				t.Fatalf("%s: %s", m.Topic, m.Payload)
			}
		}
		model := fl.Message{Topic: "fl/x/model/1/0", Payload: fmt.Append(nil, "model ", life), Retain: true}
		if err := a.Publish(t.Context(), model); err != nil {
			t.Fatal(err)
		}
		if text, err := b.Get(t.Context(), model.Topic); err != nil || string(text) != string(model.Payload) {
			t.Fatalf("got %q, %v", text, err)
		}
		p.Kill()
		p.Exit()
	}
	select {
	case m := <-got:
		t.Fatalf("%s came twice: %s", m.Topic, m.Payload)
	default:
	}
}

// A link that is cut in the middle of a publication is an error that says
// something else than that there is none, and what waits for a retained message
// ends with the link.
func TestFLTransportCut(t *testing.T) {
	proxy := testkit.NewProxy(t, testkit.Mosquitto(t, ""))
	a := flLink(t, proxy.Addr(), "a")
	soon(t, "the link", a.Link())
	proxy.Stall()
	done := make(chan error, 2)
	go func() { done <- a.Publish(t.Context(), fl.Message{Topic: "x", Payload: []byte("y")}) }()
	go func() {
		_, err := a.Get(t.Context(), "fl/none")
		done <- err
	}()
	proxy.Cut()
	for range 2 {
		if err := soon(t, "the end of the link", done); err == nil {
			t.Error("there was an answer over a link that is cut")
		}
	}
	proxy.Resume()
	soon(t, "the link again", a.Link())
	if err := a.Publish(t.Context(), fl.Message{Topic: "x", Payload: []byte("y")}); err != nil {
		t.Error(err)
	}
}

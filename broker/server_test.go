package broker

import (
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"edgegateway/internal/testkit"
)

func start(t *testing.T, cfg Config) (*Server, string) {
	t.Helper()
	if len(cfg.Listeners) == 0 {
		cfg.Listeners = []ListenerConfig{{TCP: "127.0.0.1:0"}}
	}
	s, err := New(cfg, zerolog.Nop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return s, strings.TrimPrefix(s.Addrs()[0], "tcp://")
}

func TestTapSeesWhatAClientPublishes(t *testing.T) {
	s, addr := start(t, Config{})
	got := make(chan Message, 1)
	if _, err := s.Tap([]string{"#"}, func(m Message) { got <- m }); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	pub := testkit.Program(t, "mosquitto_pub")
	if out, err := exec.Command(pub, "-p", port, "-t", "a/b", "-m", "x", "-q", "1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if m := <-got; m.Topic != "a/b" || string(m.Payload) != "x" {
		t.Error(m)
	}
}

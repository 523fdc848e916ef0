package broker

import (
	"bytes"
	"io"
	"net"
	"testing"

	"edgegateway/internal/link"
)

// After Hold nothing of a client is handed on or acknowledged; the broker's
// own messages still reach subscribers.
func TestHold(t *testing.T) {
	s, addr := start(t, Config{})
	tapped := make(chan string, 8)
	if _, err := s.Tap([]string{"#"}, func(m Message) { tapped <- m.Topic }); err != nil {
		t.Fatal(err)
	}
	sub, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + addr, ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	got := make(chan string, 8)
	if err := sub.Subscribe(t.Context(), []string{"#"}, 1, func(m link.Msg) { got <- m.Topic }); err != nil {
		t.Fatal(err)
	}
	pub, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	// publish sends a QoS 1 message and a PINGREQ, and gives what comes until
	// the answer to that: the broker has then read the message.
	publish := func(topic string) []byte {
		packet := append([]byte{0x32, byte(4 + len(topic)), 0, byte(len(topic))}, topic...)
		if _, err := pub.Write(append(packet, 0, 9, 0xc0, 0)); err != nil {
			t.Fatal(err)
		}
		var answer []byte
		for !bytes.HasSuffix(answer, []byte{0xd0, 0}) {
			b := make([]byte, 1)
			if _, err := io.ReadFull(pub, b); err != nil {
				t.Fatalf("after %x: %v", answer, err)
			}
			answer = append(answer, b...)
		}
		return answer
	}
	if _, err := pub.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01p")); err != nil {
		t.Fatal(err)
	}
	if answer := publish("before"); !bytes.Equal(answer, []byte("\x20\x02\x00\x00\x40\x02\x00\x09\xd0\x00")) {
		t.Fatalf("CONNACK, PUBACK and PINGRESP: %x", answer)
	}
	s.Hold()
	if answer := publish("late"); !bytes.Equal(answer, []byte{0xd0, 0}) {
		t.Errorf("an answer to a late message: %x", answer)
	}
	if err := s.Publish("own", nil, 1, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before", "own"} {
		if topic := <-got; topic != want {
			t.Errorf("the subscriber gets %s, want %s", topic, want)
		}
	}
	if len(tapped) != 1 || <-tapped != "before" {
		t.Error("a late message was handed on")
	}
}

// Hold returns when what is being handed on is with its taps: a stop then
// loses none of it. A will counts as any message.
func TestHoldWaits(t *testing.T) {
	for name, send := range map[string]func(addr string){
		"message": func(addr string) { connect(t, addr, hello{id: "c"}).send(packet(0x32, "a", 9)) },
		"will":    func(addr string) { connect(t, addr, hello{id: "c", will: "a"}).Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s, addr := start(t, Config{})
			at, release := make(chan struct{}), make(chan struct{})
			if _, err := s.Tap([]string{"a"}, func(Message) { close(at); <-release }); err != nil {
				t.Fatal(err)
			}
			send(addr)
			<-at
			held := make(chan struct{})
			go func() { defer close(held); s.Hold() }()
			eventually(t, "Hold does not begin", func() bool {
				select {
				case <-held:
					return true
				default:
				}
				if s.intake.TryRLock() {
					s.intake.RUnlock()
					return false
				}
				return true // it waits
			})
			select {
			case <-held:
				t.Error("Hold returns while a message is handed on")
			default:
			}
			close(release)
			<-held
		})
	}
}

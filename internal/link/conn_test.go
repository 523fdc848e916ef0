package link_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

func connect(t *testing.T, cfg link.Config) *link.Conn {
	t.Helper()
	c, err := link.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestPublishSubscribe(t *testing.T) {
	url := "tcp://" + testkit.Mosquitto(t, "allow_anonymous true")
	sub := connect(t, link.Config{URL: url, ClientID: "sub"})
	got := make(chan link.Msg, 2000)
	if err := sub.Subscribe(t.Context(), []string{"a/#"}, 1, func(m link.Msg) { got <- m }); err != nil {
		t.Fatal(err)
	}
	pub := connect(t, link.Config{URL: url, ClientID: "pub"})
	var msgs []link.Msg
	for i := range 1000 {
		msgs = append(msgs, link.Msg{Topic: "a/b", Payload: fmt.Append(nil, i), QoS: 1})
	}
	if n, err := pub.Window(t.Context(), msgs); n != 1000 || err != nil {
		t.Fatalf("acknowledged %d, %v", n, err)
	}
	for i := range 1000 {
		if m := <-got; string(m.Payload) != fmt.Sprint(i) {
			t.Fatalf("message %d is %s", i, m.Payload)
		}
	}
}

// Long messages wait at the broker for a slow handler, also one that is longer
// than all that may wait here; none is lost, and their order stays.
func TestSlowHandler(t *testing.T) {
	addr := testkit.Mosquitto(t, "")
	sub, pub := connect(t, link.Config{URL: "tcp://" + addr, ClientID: "sub"}), connect(t, link.Config{URL: "tcp://" + addr, ClientID: "pub"})
	sizes := []int{6 << 20, 1, 6 << 20}
	for range 40 {
		sizes = append(sizes, 200<<10)
	}
	goOn, got := make(chan struct{}), make(chan int, len(sizes))
	if err := sub.Subscribe(t.Context(), []string{"a"}, 1, func(m link.Msg) { <-goOn; got <- len(m.Payload) }); err != nil {
		t.Fatal(err)
	}
	for _, n := range sizes {
		if err := pub.Publish(t.Context(), link.Msg{Topic: "a", Payload: make([]byte, n), QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	close(goOn)
	for i, want := range sizes {
		if n := <-got; n != want {
			t.Fatalf("message %d has %d bytes, want %d", i, n, want)
		}
	}
}

// A link that stalls gives back what was acknowledged and an error, and a cut
// one is noticed.
func TestStallAndCut(t *testing.T) {
	proxy := testkit.NewProxy(t, testkit.Mosquitto(t, "allow_anonymous true"))
	c := connect(t, link.Config{URL: "tcp://" + proxy.Addr(), ClientID: "c", Timeout: time.Second})
	msg := link.Msg{Topic: "a", Payload: []byte("x"), QoS: 1}
	if err := c.Publish(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	proxy.Stall()
	if n, err := c.Window(t.Context(), []link.Msg{msg, msg}); n != 0 || err == nil {
		t.Errorf("over a stalled link: %d, %v", n, err)
	}
	proxy.Cut()
	<-c.Done()
	if c.Err() == nil || errors.Is(c.Err(), link.ErrClosed) {
		t.Errorf("over a cut link: %v", c.Err())
	}
	if text := c.Err().Error(); text != "connection lost: the broker ended it" && !strings.Contains(text, "reset") {
		t.Errorf("over a cut link: %s", text)
	}
	if err := c.Publish(t.Context(), msg); err == nil {
		t.Error("a publish over a cut link gave no error")
	}
}

func TestRefused(t *testing.T) {
	closed, nobody := testkit.Mosquitto(t, "allow_anonymous false"), testkit.FreeAddr(t)
	for _, c := range []struct{ url, want string }{
		{"tcp://" + closed, "broker tcp://" + closed + ": it refuses the login: it does not let this user or client id in; is"},
		{nobody, "broker tcp://" + nobody + ": nobody listens there; does a broker run"},
		{"unix://" + t.TempDir() + "/gone", "there is no such socket"},
		{"ssl://" + closed, "closed the connection before it answered; does it want a client certificate"},
		{"host", "tcp://host has no port; brokers use 1883"},
	} {
		_, err := link.Connect(t.Context(), link.Config{URL: c.url, ClientID: "c", User: "u", Password: "s3cret", Timeout: 2 * time.Second})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want %q", c.url, err, c.want)
		}
		for _, libraries := range []string{"network Error", "not Authorized", "dial ", "connect:"} {
			if err != nil && strings.Contains(err.Error(), libraries) {
				t.Errorf("%s is told in a library's words: %v", c.url, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := link.Connect(ctx, link.Config{URL: "tcp://" + closed, ClientID: "c"}); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

// Get takes the message that the broker retains, or the first that comes,
// however many do, and none where there is none.
func TestGet(t *testing.T) {
	c := connect(t, link.Config{URL: testkit.Mosquitto(t, ""), ClientID: "c"})
	var topics []string
	for i := range 20 {
		topics = append(topics, fmt.Sprint("chunks/", i))
		if err := c.Publish(t.Context(), link.Msg{Topic: topics[i], Payload: fmt.Append(nil, i), QoS: 1, Retain: true}); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for i, topic := range topics {
		all.Go(func() {
			for range 3 { // also one that was got before
				if b, err := c.Get(t.Context(), topic); err != nil || string(b) != fmt.Sprint(i) {
					t.Errorf("%s: %q, %v", topic, b, err)
				}
			}
		})
	}
	all.Wait()
	ctx, cancel := context.WithCancelCause(t.Context())
	got := make(chan error, 1)
	go func() {
		_, err := c.Get(ctx, "chunks/none")
		got <- err
	}()
	late := errors.New("it is late")
	cancel(late)
	if err := <-got; !errors.Is(err, late) {
		t.Errorf("of a topic without a message: %v", err)
	}
	c.Close()
	if _, err := c.Get(t.Context(), topics[0]); err == nil {
		t.Error("got something over a closed connection")
	}
}

// What is asked for over a link that breaks ends with it, and not with the time
// limit of an answer.
func TestGetOverABreakingLink(t *testing.T) {
	proxy := testkit.NewProxy(t, testkit.Mosquitto(t, ""))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for round := range 30 {
			c, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + proxy.Addr(), ClientID: "c", Timeout: time.Hour})
			if err != nil {
				t.Error(err)
				return
			}
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					for {
						if _, err := c.Get(t.Context(), fmt.Sprint("chunks/", i)); err != nil {
							return
						}
					}
				})
				if err := c.Publish(t.Context(), link.Msg{Topic: fmt.Sprint("chunks/", i), Payload: []byte("x"), QoS: 1, Retain: true}); err != nil {
					t.Error(err)
				}
			}
			time.Sleep(time.Duration(round) * 150 * time.Microsecond)
			proxy.Cut()
			all.Wait()
			c.Close()
			proxy.Resume()
		}
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("something waits for an answer over a link that is gone")
	}
}

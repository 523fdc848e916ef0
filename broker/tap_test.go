package broker

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A tap sees a message whole, and before it is acknowledged.
func TestTapComesBeforeTheAcknowledgement(t *testing.T) {
	s, addr := start(t, Config{Users: map[string]UserConfig{"ann": {Password: "x", Publish: []string{"#"}}}})
	seen, release := make(chan Message), make(chan struct{})
	remove, err := s.Tap([]string{"b", "a/#"}, func(m Message) {
		seen <- m
		<-release
		m.Ack(errors.New("too late to matter")) // the tap is not durable
	})
	if err != nil {
		t.Fatal(err)
	}
	var same []byte
	if _, err := s.Tap([]string{"a/+"}, func(m Message) { same = m.Payload }); err != nil {
		t.Fatal(err)
	}
	c := connect(t, addr, hello{version: 5, id: "c", user: "ann", password: "x"})
	props := []byte("\x03\x00\x01t\x08\x00\x01r\x09\x00\x01d\x26\x00\x01k\x00\x01v")
	c.send(packet(0x33, "a/b", 9, byte(len(props)), props, []byte("payload")), packet(0x32, "other", 10, byte(0)))
	m := <-seen
	want := Message{Topic: "a/b", Payload: []byte("payload"), ClientID: "c", User: "ann", QoS: 1, Retain: true,
		Properties: Properties{ContentType: "t", ResponseTopic: "r", CorrelationData: []byte("d"), User: []UserProperty{{"k", "v"}}}}
	if diff := cmp.Diff(want, m, cmpopts.IgnoreFields(Message{}, "Received", "ack")); diff != "" {
		t.Error(diff)
	}
	if m.Received.IsZero() {
		t.Error("no time of receipt")
	}
	if n := atomic.LoadInt64(&s.mqtt.Info.PacketsSent); n != 1 { // the CONNACK
		t.Errorf("%d packets were sent before the tap returned", n)
	}
	connect(t, addr, hello{id: "other", user: "ann", password: "x"}).sync() // others are served meanwhile
	release <- struct{}{}
	for _, id := range []byte{9, 10} {
		if body := c.want(0x40); body[1] != id {
			t.Errorf("PUBACK %x", body)
		}
	}
	if &same[0] != &m.Payload[0] {
		t.Error("the payload is copied")
	}
	remove()
	c.send(packet(0x30, "a/b", byte(0)))
	c.sync()
}

// Wills are messages of clients too.
func TestTapSeesWills(t *testing.T) {
	s, addr := start(t, Config{})
	seen := make(chan Message, 4)
	if _, err := s.Tap([]string{"wills/#"}, func(m Message) { seen <- m }); err != nil {
		t.Fatal(err)
	}
	connect(t, addr, hello{id: "a", will: "wills/a"}).Close()
	if m := <-seen; m.Topic != "wills/a" || m.ClientID != "a" || string(m.Payload) != "gone" {
		t.Errorf("%+v", m)
	}
	connect(t, addr, hello{version: 5, id: "b", will: "wills/b"}).send([]byte("\x82\x08\x00\x01\x00\x00\x03\x61\x2f\x23"))
	if m := <-seen; m.Topic != "wills/b" || m.ClientID != "b" {
		t.Errorf("after a panic: %+v", m)
	}
	bye := connect(t, addr, hello{id: "c", will: "wills/c"})
	bye.send(packet(0xe0))
	bye.ended()
	connect(t, addr, hello{id: "d", will: "wills/d"}).Close()
	if m := <-seen; m.Topic != "wills/d" {
		t.Errorf("%+v", m)
	}
}

// The gateway publishes without a client, and past the rules.
func TestPublishWithoutAClient(t *testing.T) {
	s, addr := start(t, Config{})
	c := connect(t, addr, hello{id: "c"})
	c.subscribe("a/#", 1)
	if err := s.Publish("a/b", []byte("x"), 2, true); err != nil {
		t.Fatal(err)
	}
	if topic, payload := c.payload(false); topic != "a/b" || payload != "x" {
		t.Errorf("%s %s", topic, payload)
	}
	late := connect(t, addr, hello{id: "late"})
	late.send(packet(0x82, 1, "a/b", byte(0)))
	late.want(0x90)
	if body := late.want(0x31); string(body) != "\x00\x03a/bx" {
		t.Errorf("retained: %q", body)
	}
	for _, topic := range []string{"", "a/+", "#", "a\x00"} {
		if err := s.Publish(topic, nil, 0, false); err == nil {
			t.Errorf("%q is a topic", topic)
		}
	}
	if _, err := s.Tap([]string{"a/#/b"}, nil); err == nil {
		t.Error("a/#/b is a filter")
	}
}

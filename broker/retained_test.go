package broker

import (
	"fmt"
	"sync"
	"testing"
)

// Subscribers with wildcards read the retained messages while others set and
// clear them.
func TestRetainedAtOnce(t *testing.T) {
	s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: patience}})
	stop := make(chan struct{})
	var all sync.WaitGroup
	for p := range 2 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.Publish(fmt.Sprint("state/", p), []byte("on")[:2*(i%2)], 0, true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	c := connect(t, addr, hello{id: "sub"})
	for range 3000 {
		c.send(packet(0x82, 77, "+/+", byte(0)))
	}
	for answers := 0; answers < 3000; {
		first, _, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		if first == 0x90 {
			answers++
		}
	}
	close(stop)
	all.Wait()
}

// A will that waits is retained, like one that does not.
func TestWillThatWaitsIsRetained(t *testing.T) {
	s, addr := start(t, Config{})
	for delay := range byte(2) {
		topic := fmt.Sprint("wills/", delay)
		c := dial(t, addr) // will flag and will retain; Session Expiry Interval; Will Delay Interval
		c.send(packet(0x10, "MQTT", byte(5), byte(0x24), 0, byte(5), []byte{0x11, 0, 0, 1, 0}, fmt.Sprint("c", delay), byte(5), []byte{0x18, 0, 0, 0, delay}, topic, "gone"))
		c.want(0x20)
		c.Close()
		eventually(t, "no will at "+topic, func() bool { _, ok := s.mqtt.Topics.Retained.Get(topic); return ok })
	}
	late := connect(t, addr, hello{id: "late"})
	late.subscribe("wills/+", 0)
	for range 2 {
		late.want(0x31)
	}
}

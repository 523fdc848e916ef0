package broker

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
)

// FuzzConnection sends bytes of somebody who may do everything to a real
// broker, behind a CONNECT of either version and without one. The broker goes
// on serving others, nothing of the client is left, and no panic is met but
// the one that is known.
func FuzzConnection(f *testing.F) {
	f.Add(byte(5), []byte("\x82\x08\x00\x01\x00\x00\x03\x61\x2f\x23"))
	f.Add(byte(5), packet(0x32, "a/b", 1, byte(0), []byte("x")))
	f.Add(byte(5), append(packet(0x82, 1, byte(0), "#", byte(1)), packet(0x33, "a", 2, byte(3), []byte{0x23, 0, 1}, []byte("x"))...))
	f.Add(byte(4), append(packet(0x82, 1, "$share/g/#", byte(2)), packet(0x34, "a", 2, []byte("x"))...))
	f.Add(byte(4), append(packet(0xa2, 1, "#"), packet(0x62, 1)...))
	f.Add(byte(0), hello{version: 5, id: "x", keep: true, will: "w", user: "u", password: "p", props: []byte{0x11, 0, 0, 0, 9}}.bytes())
	f.Add(byte(0), []byte{0x10, 0xff, 0xff, 0xff, 0x7f})
	// A Unix socket: each TCP connection would hold a port for a minute.
	socket := filepath.Join(f.TempDir(), "mqtt.sock")
	s, err := New(Config{Listeners: []ListenerConfig{{Unix: socket}}, Limits: LimitsConfig{MaxPacketBytes: 64 << 10}}, zerolog.Nop(), nil)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
	})
	<-s.Ready()
	f.Fuzz(func(t *testing.T, version byte, data []byte) {
		c := dialAt(t, "unix", socket)
		if version == 4 || version == 5 {
			c.send(hello{version: version, id: "fuzz"}.bytes())
			c.want(0x20)
		}
		_, _ = c.Write(data) // it may be cut in the middle
		_ = c.Conn.(*net.UnixConn).CloseWrite()
		c.ended()
		well := dialAt(t, "unix", socket)
		well.send(hello{id: "well"}.bytes())
		well.want(0x20)
		well.sync()
		if cl, ok := s.mqtt.Clients.Get("fuzz"); ok {
			eventually(t, "the client is left", func() bool {
				now, ok := s.mqtt.Clients.Get("fuzz")
				return !ok || now != cl
			})
		}
	})
}

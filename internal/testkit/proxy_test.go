package testkit

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo answers every line with itself.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestProxy(t *testing.T) {
	p := NewProxy(t, echo(t))
	c := dial(t, p.Addr())
	r := bufio.NewReader(c)
	say := func(line string) {
		t.Helper()
		if _, err := io.WriteString(c, line); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(want string) {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if got, err := r.ReadString('\n'); err != nil || got != want {
			t.Fatalf("heard %q, %v; want %q", got, err, want)
		}
	}
	say("one\n")
	hear("one\n")

	p.Stall()
	say("two\n")
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if b, err := r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a stalled proxy forwarded %q, %v", b, err)
	}
	p.Resume()
	hear("two\n")

	p.Cut()
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a cut connection is still open: %v", err)
	}
	if refused, err := net.Dial("tcp", p.Addr()); err == nil { // the reset may come during Dial
		defer refused.Close()
		if err := refused.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := refused.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a cut proxy took a connection: %v", err)
		}
	}

	p.Resume()
	c = dial(t, p.Addr())
	r = bufio.NewReader(c)
	say("three\n")
	hear("three\n")
}

func TestMosquitto(t *testing.T) {
	c := dial(t, Mosquitto(t, "max_keepalive 60"))
	// CONNECT, MQTT 3.1.1, clean, keepalive 10, client id "t".
	if _, err := c.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01t")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "\x20\x02\x00\x00" {
		t.Fatalf("CONNACK is %x, %v", got, err)
	}
}

// A link that breaks after so many bytes carries exactly these, counts them,
// and lets the next one in.
func TestCutEvery(t *testing.T) {
	p := NewProxy(t, echo(t))
	p.CutEvery(1000)
	for range 3 {
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(make([]byte, 600)) // 600 up leave 400 of the answer
		got, _ := io.ReadAll(c)
		c.Close()
		if len(got) != 400 {
			t.Errorf("%d bytes came back, not 400", len(got))
		}
	}
	if got := p.Carried(); got.Up+got.Down != 3000 || got.Links != 3 || got.Cuts != 3 {
		t.Errorf("%+v", got)
	}
	p.CutEvery(0)
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5000)); err != nil {
		t.Error(err)
	}
}

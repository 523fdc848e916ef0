package cli

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// benchClient is an MQTT 3.1.1 client that costs next to nothing, so that what
// is measured is the server and not the load: a packet is made once and sent
// again and again, many in one write. It is for one publisher or one
// subscriber; what people use is internal/link.
type benchClient struct {
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
}

func dialBench(ctx context.Context, url, id string) (*benchClient, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(url, "tcp://"))
	if err != nil {
		return nil, err
	}
	c := &benchClient{conn: conn, r: bufio.NewReaderSize(conn, 1<<16), w: bufio.NewWriterSize(conn, 1<<16)}
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0}, mqttString(id)...) // clean session, no keep-alive
	if _, err := c.ask(packet(0x10, body), 2); err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	return c, nil
}

func mqttString(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// packet puts the fixed header before a body.
func packet(first byte, body []byte) []byte {
	b := []byte{first}
	for n := len(body); ; {
		if n < 128 {
			b = append(b, byte(n))
			break
		}
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, body...)
}

// ask sends a packet and waits for its acknowledgement, of want's type.
func (c *benchClient) ask(p []byte, want byte) ([]byte, error) {
	c.conn.SetDeadline(time.Now().Add(10 * time.Second))
	defer c.conn.SetDeadline(time.Time{})
	if _, err := c.conn.Write(p); err != nil {
		return nil, err
	}
	first, body, err := c.next()
	if err != nil {
		return nil, err
	}
	if first>>4 != want || len(body) < 2 || want == 2 && body[1] != 0 {
		return nil, fmt.Errorf("refused: packet %#x, % x", first, body)
	}
	return body, nil
}

// next reads a packet; body is valid until the next one.
func (c *benchClient) next() (first byte, body []byte, err error) {
	if first, err = c.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, shift := 0, 0
	for {
		b, err := c.r.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		n |= int(b&0x7f) << shift
		if shift += 7; b < 128 {
			break
		}
		if shift > 21 {
			return 0, nil, errors.New("a packet without end")
		}
	}
	if n <= c.r.Size() {
		if body, err = c.r.Peek(n); err != nil {
			return 0, nil, err
		}
		_, err = c.r.Discard(n)
		return first, body, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(c.r, body)
	return first, body, err
}

// subscribe hands every message of a filter to handle, until the connection
// ends. Messages may come before the acknowledgement of the filter.
func (c *benchClient) subscribe(filter string, qos byte, handle func(topic, payload []byte)) error {
	if _, err := c.conn.Write(packet(0x82, append(append([]byte{0, 1}, mqttString(filter)...), qos))); err != nil {
		return err
	}
	granted := make(chan error, 2)
	go func() {
		for {
			first, body, err := c.next()
			if err != nil {
				granted <- err
				return
			}
			if first>>4 == 9 && len(body) > 2 {
				if err = nil; body[2] > 2 {
					err = errors.New("refused")
				}
				granted <- err
			}
			if first>>4 != 3 || len(body) < 2 {
				continue
			}
			n := 2 + int(binary.BigEndian.Uint16(body))
			topic, rest := body[2:n], body[n:]
			if first>>1&3 > 0 {
				c.w.Write([]byte{0x40, 2, rest[0], rest[1]})
				rest = rest[2:]
			}
			handle(topic, rest)
			if c.r.Buffered() == 0 && c.w.Flush() != nil {
				return
			}
		}
	}()
	select {
	case err := <-granted:
		if err != nil {
			return fmt.Errorf("subscribe %s: %w", filter, err)
		}
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("subscribe %s: no answer", filter)
	}
}

// publisher gives a function that queues the same message once more, and one
// that sends what is queued.
func (c *benchClient) publisher(topic string, payload []byte, qos byte) (again func() error, flush func() error) {
	return c.changing(topic, payload, qos, nil)
}

// changing is publisher for messages that are not the same: change writes over
// the payload of each before it is queued; nil changes nothing.
func (c *benchClient) changing(topic string, payload []byte, qos byte, change func(payload []byte)) (again func() error, flush func() error) {
	body := mqttString(topic)
	at := len(body)
	if qos > 0 {
		body = append(body, 0, 0)
		go io.Copy(io.Discard, c.r) // acknowledgements
	}
	p := packet(0x30|qos<<1, append(body, payload...))
	at += len(p) - len(body) - len(payload)
	id := uint16(0)
	return func() error {
		if qos > 0 {
			if id++; id == 0 {
				id = 1
			}
			binary.BigEndian.PutUint16(p[at:], id)
		}
		if change != nil {
			change(p[len(p)-len(payload):])
		}
		_, err := c.w.Write(p)
		return err
	}, c.w.Flush
}

func (c *benchClient) close() {
	c.conn.Write([]byte{0xe0, 0})
	c.conn.Close()
}

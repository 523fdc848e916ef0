package broker

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
)

// hijacked hands a connection that is already at hand to the upgrader.
type hijacked struct {
	net.Conn
	rw     *bufio.ReadWriter
	header http.Header
}

func (h *hijacked) Header() http.Header { return h.header }

// WriteHeader is called where the upgrade is refused.
func (h *hijacked) WriteHeader(code int) {
	fmt.Fprintf(h.Conn, "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n", code, http.StatusText(code))
}

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.Conn, h.rw, nil }

// readUpgrade reads one HTTP request of at most 16 KiB.
func readUpgrade(c net.Conn) (*hijacked, *http.Request, error) {
	req, err := http.ReadRequest(bufio.NewReader(io.LimitReader(c, 16<<10)))
	if err != nil {
		return nil, nil, err
	}
	rw := bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
	return &hijacked{c, rw, http.Header{}}, req, nil
}

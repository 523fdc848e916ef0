package link

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/gorilla/websocket"
)

// explain says what to look at for the usual failures; secure says that TLS
// was spoken.
func explain(err error, secure bool) error {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		record   tls.RecordHeaderError
		op       *net.OpError
		dns      *net.DNSError
		network  net.Error
	)
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword):
		return fmt.Errorf("user or password is not right: %w", err)
	case errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return fmt.Errorf("the broker does not let this user or client in: %w", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("its certificate is signed by nobody this machine knows; name the authority's file: %w", err)
	case errors.As(err, &hostname):
		return fmt.Errorf("its certificate is for another name: %w", err)
	case errors.As(err, &invalid):
		return fmt.Errorf("its certificate is not valid; is this machine's clock right?: %w", err)
	case errors.As(err, &record):
		return fmt.Errorf("it does not speak TLS on that port: %w", err)
	case errors.As(err, &op) && op.Op == "remote error": // so crypto/tls names an alert of the other side
		return fmt.Errorf("it refuses the TLS connection; does it want a client certificate?: %w", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens there: %w", err)
	case errors.As(err, &dns):
		return fmt.Errorf("its name is not known: %w", err)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return fmt.Errorf("it does not answer: %w", err)
	case closed(err) && secure: // what it said of the reason may have been lost on the way
		return fmt.Errorf("it closed the connection before it answered; does it want a client certificate, or another client id?: %w", err)
	case closed(err):
		return fmt.Errorf("it closed the connection before it answered; does it want TLS there, or another client id?: %w", err)
	}
	return err
}

func closed(err error) bool {
	var ws *websocket.CloseError
	return errors.As(err, &ws) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

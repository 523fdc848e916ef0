package link

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/gorilla/websocket"
)

// said is an error in a person's words; the library's is inside.
type said struct {
	text string
	err  error
}

func (e *said) Error() string { return e.text }
func (e *said) Unwrap() error { return e.err }

// explain says of the usual failures to connect what happened and what to look
// at, in place of the library's words; secure says that TLS was spoken.
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
	is := func(text string) error { return &said{text, err} }
	detail := func(err error) string { return strings.TrimPrefix(err.Error(), "x509: ") }
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword):
		return is("it refuses the login: user or password is not right")
	case errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return is("it refuses the login: it does not let this user or client id in; is the user there, and the password right?")
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return is("it refuses the client id; give another one")
	case errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return is("it does not speak MQTT 3.1.1")
	case errors.Is(err, packets.ErrorRefusedServerUnavailable):
		return is("it answers that it is not available now")
	case errors.As(err, &unknown):
		return is("its certificate is signed by nobody this machine knows; name the authority's file (ca)")
	case errors.As(err, &hostname):
		return is("its certificate is for another name: " + detail(hostname))
	case errors.As(err, &invalid):
		return is("its certificate is not valid; is this machine's clock right?: " + detail(invalid))
	case errors.As(err, &record):
		return is("it does not speak TLS on that port")
	case errors.As(err, &op) && op.Op == "remote error": // so crypto/tls names an alert of the other side
		return is("it refuses the TLS connection; does it want a client certificate?: " + op.Err.Error())
	case errors.Is(err, syscall.ECONNREFUSED):
		return is("nobody listens there; does a broker run, and is the address right?")
	case errors.As(err, &dns):
		return is("its name is not known; is it written right, and is there a network?")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return is("it does not answer; is the address right, and does no firewall stand between?")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return is("there is no way to it from this machine; is the network up?")
	case errors.Is(err, os.ErrNotExist): // of a Unix socket
		return is("there is no such socket; does the broker run?")
	case errors.Is(err, os.ErrPermission):
		return is("this user may not connect to it: permission denied")
	case closed(err) && secure: // what it said of the reason may have been lost on the way
		return is("it closed the connection before it answered; does it want a client certificate, or another client id?")
	case closed(err):
		return is("it closed the connection before it answered; does it want TLS there, or another client id?")
	}
	return is(plain(err))
}

// lost says why a connection that stood is gone.
func lost(err error) error {
	switch {
	case closed(err):
		return &said{ErrEnded.Error(), errors.Join(ErrEnded, err)}
	case strings.HasPrefix(err.Error(), "pingresp"):
		return &said{"the broker is silent", err}
	}
	return &said{plain(err), err}
}

// plain is the text of an error without what the library puts in front.
func plain(err error) string {
	return strings.TrimPrefix(err.Error(), packets.ErrorNetworkError.Error()+" : ")
}

func closed(err error) bool {
	var ws *websocket.CloseError
	return errors.As(err, &ws) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

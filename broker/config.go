package broker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Config is the `broker` section.
type Config struct {
	Listeners []ListenerConfig      `yaml:"listeners" desc:"where clients connect"`
	Users     map[string]UserConfig `yaml:"users" desc:"who may connect and what they may do; what is not allowed is denied"`
	Anonymous *AnonymousConfig      `yaml:"anonymous" desc:"what clients without a user may do"`
	Limits    LimitsConfig          `yaml:"limits" desc:"what one client and all of them may take"`
}

// ListenerConfig names one address: exactly one of the three kinds.
type ListenerConfig struct {
	TCP       string     `yaml:"tcp" desc:"host:port for MQTT over TCP"`
	WebSocket string     `yaml:"websocket" desc:"host:port for MQTT over WebSocket"`
	Unix      string     `yaml:"unix" desc:"path of a Unix socket"`
	TLS       *TLSConfig `yaml:"tls" desc:"certificates; without it the listener is clear text"`
}

// TLSConfig names PEM files.
type TLSConfig struct {
	Cert     string `yaml:"cert" desc:"certificate file"`
	Key      string `yaml:"key" desc:"private key file"`
	ClientCA string `yaml:"client_ca" desc:"authority of client certificates, which are then required"`
}

// UserConfig is one user. A user without a password can only come with a
// client certificate whose common name is the user's.
type UserConfig struct {
	PasswordFile string   `yaml:"password_file" desc:"file with the password or its bcrypt hash"`
	Password     string   `yaml:"password" desc:"the password or its bcrypt hash"`
	Publish      []string `yaml:"publish" desc:"filters the user may publish to; %u and %c stand for user and client id"`
	Subscribe    []string `yaml:"subscribe" desc:"filters the user may subscribe to; %u and %c stand for user and client id"`
}

// AnonymousConfig is what a client without a user may do.
type AnonymousConfig struct {
	Publish        []string `yaml:"publish" desc:"filters anybody may publish to"`
	Subscribe      []string `yaml:"subscribe" desc:"filters anybody may subscribe to"`
	BeyondLoopback bool     `yaml:"beyond_loopback" desc:"let clients of other machines in without a user"`
}

// LimitsConfig bounds clients. Zero means the default.
type LimitsConfig struct {
	Connections    int           `yaml:"connections" desc:"sockets at a time, 1024 by default"`
	MaxPacketBytes int           `yaml:"max_packet_bytes" desc:"largest packet, 1 MiB and 1 KiB by default"`
	Inflight       int           `yaml:"inflight" desc:"unacknowledged messages of a client, 1024 by default"`
	ConnectTimeout time.Duration `yaml:"connect_timeout" desc:"time from the socket to its CONNECT, 10s by default"`
	WriteTimeout   time.Duration `yaml:"write_timeout" desc:"time a write may take before the client is cut, 1s by default"`
}

// DefaultConfig listens on loopback.
func DefaultConfig() Config {
	return Config{Listeners: []ListenerConfig{{TCP: "127.0.0.1:1883"}}, Limits: LimitsConfig{}.filled()}
}

func (l LimitsConfig) filled() LimitsConfig {
	if l.Connections == 0 {
		l.Connections = 1024
	}
	if l.MaxPacketBytes == 0 {
		l.MaxPacketBytes = 1<<20 + 1<<10
	}
	if l.Inflight == 0 {
		l.Inflight = 1024
	}
	if l.ConnectTimeout == 0 {
		l.ConnectTimeout = 10 * time.Second
	}
	if l.WriteTimeout == 0 {
		l.WriteTimeout = time.Second
	}
	return l
}

// Validate names every field that cannot be served.
func (c Config) Validate() error {
	var errs []error
	bad := func(path, format string, args ...any) {
		errs = append(errs, fmt.Errorf(path+": "+format, args...))
	}
	if len(c.Listeners) == 0 {
		bad("listeners", "there is none; for example [{tcp: 127.0.0.1:1883}]")
	}
	for i, l := range c.Listeners {
		kind, addr, err := l.kind()
		path := fmt.Sprintf("listeners[%d]", i)
		if err != nil {
			bad(path, "%w", err)
			continue
		}
		for k, before := range c.Listeners[:i] {
			if l.same(before) {
				bad(path+"."+kind, "%s is where listeners[%d] listens already", addr, k)
			}
		}
		if l.TLS != nil {
			if l.TLS.Cert == "" || l.TLS.Key == "" {
				bad(path+".tls", "names no file for each of cert and key")
			} else if _, err := l.TLS.load(); err != nil {
				bad(path+".tls", "%w", err)
			}
		}
		if kind == "unix" {
			continue
		}
		host, port, err := net.SplitHostPort(addr)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			bad(path+"."+kind, "%q is no address and port such as 127.0.0.1:1883", addr)
		} else if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) &&
			len(c.Users) == 0 && (c.Anonymous == nil || !c.Anonymous.BeyondLoopback) {
			bad(path+"."+kind, "%s is open to other machines: name `users`, or set `anonymous.beyond_loopback: true`", addr)
		}
	}
	filters := func(path string, list []string) {
		for i, f := range list {
			if err := ValidFilter(f); err != nil {
				bad(fmt.Sprintf("%s[%d]", path, i), "%w", err)
			}
		}
	}
	for name, u := range c.Users {
		path := "users." + name
		if name == "" {
			bad("users", "a user has no name")
		}
		if secret, err := u.secret(); err != nil {
			bad(path+".password_file", "%w", err)
		} else if secret == "" && !c.asksForCertificates() {
			bad(path, "has neither password_file nor password, and no listener asks for client certificates (tls.client_ca): this user could never come in")
		}
		filters(path+".publish", u.Publish)
		filters(path+".subscribe", u.Subscribe)
	}
	if a := c.Anonymous; a != nil {
		filters("anonymous.publish", a.Publish)
		filters("anonymous.subscribe", a.Subscribe)
	}
	l := c.Limits
	if l.Connections < 0 || l.MaxPacketBytes < 0 || l.Inflight < 0 || l.ConnectTimeout < 0 || l.WriteTimeout < 0 {
		bad("limits", "a limit is negative")
	}
	if l.Inflight > 65535 {
		bad("limits.inflight", "%d, MQTT allows 65535", l.Inflight)
	}
	if l.MaxPacketBytes > 268435460 {
		bad("limits.max_packet_bytes", "%d, MQTT allows 268435460", l.MaxPacketBytes)
	}
	return errors.Join(errs...)
}

// asksForCertificates says whether a user can come without a password.
func (c Config) asksForCertificates() bool {
	return slices.ContainsFunc(c.Listeners, func(l ListenerConfig) bool { return l.TLS != nil && l.TLS.ClientCA != "" })
}

func (l ListenerConfig) kind() (kind, addr string, err error) {
	n := 0
	for k, a := range map[string]string{"tcp": l.TCP, "websocket": l.WebSocket, "unix": l.Unix} {
		if a != "" {
			kind, addr, n = k, a, n+1
		}
	}
	if n != 1 {
		return "", "", fmt.Errorf("name one of tcp, websocket and unix, %d are there", n)
	}
	return kind, addr, nil
}

// secret is the password or its hash, "" for none.
func (u UserConfig) secret() (string, error) {
	if u.PasswordFile == "" {
		return u.Password, nil
	}
	if u.Password != "" {
		return "", errors.New("password is set too, keep one")
	}
	b, err := os.ReadFile(u.PasswordFile)
	if err != nil {
		return "", err
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" {
		return "", fmt.Errorf("%s is empty", u.PasswordFile)
	}
	if _, err := bcrypt.Cost([]byte(s)); err == nil {
		return s, nil
	}
	info, err := os.Stat(u.PasswordFile)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s holds a clear password and others may read it: chmod 600 %[1]s", u.PasswordFile)
	}
	return s, nil
}

package link

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// schemes of a broker's address. Those of one line mean the same.
var schemes = []string{
	"mqtt", "tcp", // TCP
	"mqtts", "ssl", "tls", "tcps", // TLS over TCP
	"ws", "wss", // WebSocket, with TLS
	"unix",
}

// Address reads a broker's address as people write it: one of mqtt://, tcp://,
// mqtts://, ssl://, ws://, wss:// with host and port, unix:// with a path, or
// host:port alone, which is tcp://. It gives the address with its scheme, and
// whether TLS is spoken. Its errors do not repeat what may hold a password.
func Address(s string) (address string, secure bool, err error) {
	if !strings.Contains(s, "://") {
		s = "tcp://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" && u.Path == "" {
		return "", false, errors.New("is no address such as mqtt://host:1883, mqtts://host:8883 or host:1883")
	}
	if u.User != nil {
		return "", false, errors.New("holds a user or password, which would show in logs; they are given beside it")
	}
	if !slices.Contains(schemes, u.Scheme) {
		return "", false, fmt.Errorf("%s:// is none of mqtt://, tcp://, mqtts://, ssl://, ws://, wss://, unix://", u.Scheme)
	}
	if u.Hostname() == "" && u.Scheme != "unix" {
		return "", false, fmt.Errorf("%s://%s names no host, such as localhost", u.Scheme, u.Host)
	}
	switch u.Scheme {
	case "ws", "unix":
		return s, false, nil
	case "wss":
		return s, true, nil
	case "mqtts", "ssl", "tls", "tcps":
		secure = true
	}
	if u.Port() == "" {
		return "", false, fmt.Errorf("%s://%s has no port; brokers use 1883, with TLS 8883", u.Scheme, u.Host)
	}
	return s, secure, nil
}

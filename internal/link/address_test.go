package link_test

import (
	"strings"
	"testing"

	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// An address is read alike wherever one is given.
func TestAddress(t *testing.T) {
	for in, want := range map[string]struct {
		address string
		secure  bool
		err     string
	}{
		"cloud:1883":            {address: "tcp://cloud:1883"},
		"10.0.0.7:1883":         {address: "tcp://10.0.0.7:1883"},
		"[::1]:1883":            {address: "tcp://[::1]:1883"},
		"mqtt://cloud:1883":     {address: "mqtt://cloud:1883"},
		"tcp://cloud:1883":      {address: "tcp://cloud:1883"},
		"mqtts://cloud:8883":    {address: "mqtts://cloud:8883", secure: true},
		"ssl://cloud:8883":      {address: "ssl://cloud:8883", secure: true},
		"tls://cloud:8883":      {address: "tls://cloud:8883", secure: true},
		"ws://cloud:80/mqtt":    {address: "ws://cloud:80/mqtt"},
		"wss://cloud/mqtt?t=1":  {address: "wss://cloud/mqtt?t=1", secure: true},
		"unix:///run/eg.sock":   {address: "unix:///run/eg.sock"},
		"cloud":                 {err: "has no port; brokers use 1883"},
		":11893":                {err: "tcp://:11893 names no host"},
		"ws://:80/mqtt":         {err: "ws://:80 names no host"},
		"mqtts://cloud":         {err: "has no port"},
		"":                      {err: "is no address such as"},
		"http://cloud:80":       {err: "http:// is none of mqtt://"},
		"me:s3cret@cloud:1883":  {err: "holds a user or password"},
		"tcp://me:s3cret@c:188": {err: "holds a user or password"},
		"tcp://me:s3cret@c:1x":  {err: "is no address"},
		"cloud:1883x":           {err: "is no address"},
	} {
		address, secure, err := link.Address(in)
		if (err == nil) != (want.err == "") || address != want.address || secure != want.secure {
			t.Errorf("%s: %q %v %v, want %+v", in, address, secure, err, want)
		}
		if err != nil && (!strings.Contains(err.Error(), want.err) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%s: %v, want %q", in, err, want.err)
		}
	}
	addr := testkit.Mosquitto(t, "allow_anonymous true")
	for _, url := range []string{addr, "mqtt://" + addr, "tcp://" + addr} {
		connect(t, link.Config{URL: url, ClientID: "c"})
	}
}

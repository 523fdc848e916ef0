package upstream_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgegateway/gateway/upstream"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// The cloud broker is killed and started anew in the middle of 20,000 results.
func TestCloudKilled(t *testing.T) {
	c := listener(t)
	addr := testkit.FreeAddr(t)
	m := &mortal{take: c.take}
	kill := m.start(t, addr)
	o, b, _ := start(t, t.TempDir(), quick("tcp://"+addr), nil)
	filled := make(chan error)
	go func() { filled <- fill(o, 20000) }()
	for _, n := range []int{3000, 11000} {
		c.waitResults(n)
		kill()
		for b.Status().Connected {
			time.Sleep(time.Millisecond)
		}
		kill = m.start(t, addr)
	}
	c.waitResults(20000)
	if err := <-filled; err != nil {
		t.Fatal(err)
	}
	waitEmpty(o)
	t.Logf("%d duplicates", c.dups)
}

// A link with TLS, a client certificate and a password; and what is said when
// one of them is missing.
func TestSecured(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	ca.issue(t, "server", net.IPv4(127, 0, 0, 1))
	ca.issue(t, "client", nil)
	users := filepath.Join(dir, "users")
	if out, err := exec.Command(testkit.Program(t, "mosquitto_passwd"), "-b", "-c", users, "hall-7", "s3cret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v: %s", err, out)
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	addr := testkit.Mosquitto(t, strings.Join([]string{
		"allow_anonymous false", "password_file " + users, "user root",
		"cafile " + file("ca.pem"), "certfile " + file("server.pem"), "keyfile " + file("server.key"), "require_certificate true", unbounded,
	}, "\n"))
	good := quick("ssl://" + addr)
	good.User, good.PasswordFile = "hall-7", password
	good.TLS = upstream.TLSConfig{CA: file("ca.pem"), Cert: file("client.pem"), Key: file("client.key")}

	c := newCloud(t, link.Config{URL: good.URL, User: "hall-7", Password: "s3cret", CA: good.TLS.CA, Cert: good.TLS.Cert, Key: good.TLS.Key})
	o, _, _ := start(t, t.TempDir(), good, nil)
	if err := fill(o, 500); err != nil {
		t.Fatal(err)
	}
	c.waitResults(500)

	for name, tt := range map[string]struct {
		change func(*upstream.Config)
		want   string
	}{
		"wrong password":       {func(c *upstream.Config) { c.PasswordFile, c.Password = "", "s3cret-but-wrong" }, "let this user"},
		"no authority":         {func(c *upstream.Config) { c.TLS.CA = "" }, "signed by nobody"},
		"no certificate":       {func(c *upstream.Config) { c.TLS.Cert, c.TLS.Key = "", "" }, "client certificate"},
		"no TLS":               {func(c *upstream.Config) { c.URL, c.TLS = "tcp://"+addr, upstream.TLSConfig{} }, "TLS"},
		"password file gone":   {func(c *upstream.Config) { c.PasswordFile = file("gone") }, "no such file"},
		"nobody of that name":  {func(c *upstream.Config) { c.URL = "ssl://no-such-host.invalid:8883" }, "name is not known"},
		"somebody else's name": {func(c *upstream.Config) { c.URL = strings.Replace(c.URL, "127.0.0.1", "localhost", 1) }, "another name"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			outbox, err := upstream.OpenOutbox(t.TempDir(), cfg, nop, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer outbox.Close()
			b, err := upstream.NewBridge("cloud", "other", cfg, outbox, nil, nop, nil)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { done <- b.Run(ctx) }()
			defer func() { cancel(); <-done }()
			for b.Status().LastError == "" {
				time.Sleep(time.Millisecond)
			}
			if said := b.Status().LastError; !strings.Contains(said, tt.want) || strings.Contains(said, "s3cret") {
				t.Errorf("it said %q, want %q", said, tt.want)
			}
		})
	}
}

// authority issues certificates into a folder.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t *testing.T, dir string) *authority {
	a := &authority{dir: dir}
	a.issue(t, "ca", nil)
	return a
}

// issue makes NAME.pem and NAME.key; the first is the authority's own.
func (a *authority) issue(t *testing.T, name string, ip net.IP) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.n++
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(a.n), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if ip != nil {
		cert.IPAddresses = []net.IP{ip}
	}
	if a.cert == nil {
		cert.IsCA, cert.BasicConstraintsValid = true, true
		a.cert, a.key = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for ext, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(a.dir, name+ext), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Draining to a foreign broker on loopback, without anybody subscribed.
func BenchmarkDrain(b *testing.B) {
	addr := testkit.Mosquitto(b, "")
	for _, window := range []int{16, 64, 128, 256} {
		b.Run(fmt.Sprint("window", window), func(b *testing.B) {
			cfg := quick("tcp://" + addr)
			cfg.Window = window
			cfg.Limits.ResultsBytes = 1 << 30
			dir := b.TempDir()
			o, err := upstream.OpenOutbox(dir, cfg, nop, nil)
			if err != nil {
				b.Fatal(err)
			}
			if err := fill(o, b.N); err != nil {
				b.Fatal(err)
			}
			o.Close()
			b.ReportAllocs()
			b.ResetTimer()
			o, _, stop := start(b, dir, cfg, nil)
			waitEmpty(o)
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			stop()
		})
	}
}

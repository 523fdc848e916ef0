package keyfile

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeys reads what it made, and takes nothing else for a key.
func TestKeys(t *testing.T) {
	private, public, id, err := New()
	if err != nil {
		t.Fatal(err)
	}
	list, err := Read(write(t, "two.pub", append(append([]byte("a comment\n"), public...), public...)))
	if err != nil || len(list) != 2 || list[0].ID != id {
		t.Errorf("two keys of one file are %v: %v", list, err)
	}
	priv, err := ReadPrivate(write(t, "key.pem", private))
	if err != nil || ID(priv.Public().(ed25519.PublicKey)) != id {
		t.Errorf("the private key is not that of %s: %v", id, err)
	}
	for name, c := range map[string]struct {
		text []byte
		say  string
	}{
		"a private key where a public one is asked for": {private, "private key"},
		"nothing":    {nil, "no public key"},
		"too much":   {make([]byte, maxFile+1), "too large"},
		"half a key": {public[:len(public)/2], "no public key"},
		"an RSA key": {[]byte(rsaKey), "another kind"},
	} {
		if _, err := Read(write(t, "x.pub", c.text)); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadPrivate(write(t, "x.pem", public)); err == nil || !strings.Contains(err.Error(), "no private key") {
		t.Errorf("a public key that shall sign: %v", err)
	}
}

const rsaKey = `-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf
9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==
-----END PUBLIC KEY-----
`

func write(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

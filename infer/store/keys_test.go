package store

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"crypto/sha256"

	"edgegateway/internal/testkit"
)

// TestKeys reads what it made, and takes nothing else for a key.
func TestKeys(t *testing.T) {
	private, public, id, err := NewKey()
	do(t, err)
	keys, err := ReadKeys(write(t, "two.pub", append(append([]byte("a comment\n"), public...), public...)))
	if err != nil || len(keys) != 2 || keys[0].ID != id {
		t.Errorf("two keys of one file are %v: %v", keys, err)
	}
	priv, err := ReadPrivateKey(write(t, "key.pem", private))
	if err != nil || KeyID(priv.Public().(ed25519.PublicKey)) != id {
		t.Errorf("the private key is not that of %s: %v", id, err)
	}
	for name, c := range map[string]struct {
		text []byte
		say  string
	}{
		"a private key where a public one is asked for": {private, "private key"},
		"nothing":    {nil, "no public key"},
		"too much":   {make([]byte, maxKeyFile+1), "too large"},
		"half a key": {public[:len(public)/2], "no public key"},
		"an RSA key": {[]byte(rsaKey), "another kind"},
	} {
		if _, err := ReadKeys(write(t, "x.pub", c.text)); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadPrivateKey(write(t, "x.pem", public)); err == nil || !strings.Contains(err.Error(), "no private key") {
		t.Errorf("a public key that shall sign: %v", err)
	}
}

const rsaKey = `-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf
9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==
-----END PUBLIC KEY-----
`

// TestOpenSSL lets openssl make the keys, sign and check: the formats are not
// only our own.
func TestOpenSSL(t *testing.T) {
	openssl := testkit.Program(t, "openssl")
	run := func(args ...string) []byte {
		t.Helper()
		out, err := exec.Command(openssl, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
		return out
	}
	dir := t.TempDir() + "/"
	run("genpkey", "-algorithm", "ed25519", "-out", dir+"theirs.pem")
	run("pkey", "-in", dir+"theirs.pem", "-pubout", "-out", dir+"theirs.pub")
	priv, err := ReadPrivateKey(dir + "theirs.pem")
	do(t, err)
	keys, err := ReadKeys(dir + "theirs.pub")
	do(t, err)
	der := run("pkey", "-pubin", "-in", dir+"theirs.pub", "-outform", "DER")
	if sum := sha256.Sum256(der); hex.EncodeToString(sum[:8]) != keys[0].ID {
		t.Errorf("the key's id is %s, of openssl's DER it is %x", keys[0].ID, sum[:8])
	}
	m, _ := aBundle(t, "door", "1", 1)
	text := mustEncode(t, m)
	file, err := sign(text, priv)
	do(t, err)
	do(t, verify(text, file, keys))
	var s signed
	do(t, json.Unmarshal(file, &s))
	sig, err := base64.StdEncoding.DecodeString(s.Signature)
	do(t, err)
	out := run("pkeyutl", "-verify", "-pubin", "-inkey", dir+"theirs.pub", "-rawin", "-in", write(t, "m.json", text), "-sigfile", write(t, "m.sig", sig))
	if !strings.Contains(string(out), "Signature Verified Successfully") {
		t.Errorf("openssl says %s", out)
	}
}

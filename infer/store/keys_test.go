package store

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"crypto/sha256"

	"edgegateway/internal/keyfile"
	"edgegateway/internal/testkit"
)

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
	priv, err := keyfile.ReadPrivate(dir + "theirs.pem")
	do(t, err)
	keys, err := keyfile.Read(dir + "theirs.pub")
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

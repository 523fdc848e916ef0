package fl

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"edgegateway/fl/aggregate"
)

// hexLines is bytes as a document has them: 32 a line, indented.
func hexLines(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		n := min(len(b), 32)
		fmt.Fprintf(&s, "    %x\n", b[:n])
		b = b[n:]
	}
	return s.String()
}

// exampleText is the worked example of docs/federated-protocol.md, and the
// payload of its message.
func exampleText(t *testing.T) (string, []byte) {
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(i)
	}
	key := ed25519.NewKeyFromSeed(seed)
	w := &Weights{Layout: Hash(sha256.Sum256([]byte("a layout"))), Values: []float32{1, -2, 0.5}}
	delta, _, err := aggregate.Encode(aggregate.Compression{Kind: "none"}, []float32{0.25, 0, -1}, nil, 0)
	do(t, err)
	u := Update{Samples: 600, Delta: delta, Before: Metrics{60, 0.5, 0.75}, After: Metrics{60, 0.25, 0.875}, Seconds: 1.5}
	plain, err := marshal(u)
	do(t, err)
	body := zip(plain)
	list, err := Seal(Header{Kind: KindUpdate, Task: "digits-0123456789ab", Round: 3, Base: w.Hash(), Seq: 1_700_000_000_000, From: "press7"}, body, 0, key)
	do(t, err)
	var e envelope
	do(t, unmarshal(list[0].Payload, &e))

	var s strings.Builder
	block := func(what string, b []byte) { fmt.Fprintf(&s, "%s, %d bytes:\n\n%s\n", what, len(b), hexLines(b)) }
	s.WriteString("Made by a test, as this program makes it (`go test ./fl -run TestExample`). Another\nzstd may give another frame, and with it another body, header and signature.\n\n")
	block("The private key's seed (RFC 8032)", seed)
	block("The public key", key.Public().(ed25519.PublicKey))
	block("Three weights (1, -2, 0.5), with the SHA-256 of `a layout` as their layout; their hash", w.Hash().bytes())
	block("An update of them by (0.25, 0, -1), compression `none`: the delta", delta)
	block("The update, trained on 600 samples in 1.5 seconds; of 60 held out, loss and accuracy\nwere 0.5 and 0.75, and became 0.25 and 0.875", plain)
	block("Packed: the body", body)
	block("Its SHA-256", e.bodyHash())
	block("The header, of round 3 of task `digits-0123456789ab`, from `press7`, seq 1,700,000,000,000", e.Header)
	block("What is signed", toSign(e.Header, e.Part))
	block("The signature", e.Signature)
	block("The key's id", e.Key)
	block("The payload, on topic `"+list[0].Topic+"`", list[0].Payload)
	return s.String(), list[0].Payload
}

func (h Hash) bytes() []byte { return h[:] }

func (e *envelope) bodyHash() []byte {
	sum := sha256.Sum256(e.Part)
	return sum[:]
}

// The example of the document is what this program makes, and takes.
func TestExample(t *testing.T) {
	want, payload := exampleText(t)
	doc, err := os.ReadFile("../docs/federated-protocol.md")
	do(t, err)
	_, rest, _ := strings.Cut(string(doc), "<!-- example -->\n")
	got, _, ok := strings.Cut(rest, "<!-- /example -->")
	if !ok || got != want {
		t.Errorf("docs/federated-protocol.md should have between its marks:\n%s", want)
	}
	// Read as a second implementation would: from the document alone.
	_, text, _ := strings.Cut(got, "The payload, on topic `")
	topic, lines, _ := strings.Cut(text, "`")
	lines = lines[strings.Index(lines+":", ":")+1:]
	read, err := hex.DecodeString(strings.Join(strings.Fields(lines), ""))
	do(t, err)
	_, public, _ := strings.Cut(got, "The public key, 32 bytes:\n\n    ")
	key, err := hex.DecodeString(public[:64])
	do(t, err)
	p, err := Open(Message{Topic: topic, Payload: read}, Enrolled(KeyMap{"press7": key}))
	do(t, err)
	u, delta, err := DecodeUpdate(p.Data, 3)
	do(t, err)
	if u.Samples != 600 || fmt.Sprint(delta) != "[0.25 0 -1]" || p.Round != 3 || string(read) != string(payload) {
		t.Errorf("the document's message is %+v, %v", u, delta)
	}
}

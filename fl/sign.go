package fl

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"edgegateway/internal/keyfile"
)

// Format is the version of the protocol that this package speaks.
const Format = 1

// Bounds of messages.
const (
	DefaultChunk = 96 << 10  // bytes of body in a message: with topic and header under AWS IoT's 128 KiB
	MinChunk     = 1 << 10   // of what a link must bear
	maxMessage   = 128 << 10 // bytes of a payload
	maxHeader    = 1 << 10   // bytes of a header
	maxChunks    = 1 << 16   // messages of a body
	maxBody      = 1 << 29   // bytes of a body
	maxRound     = 1 << 30
)

// signed goes before what is signed, so that no signature of ours on anything
// else can be taken for one on a message.
const signed = "edgegateway/fl/1\n"

// envelope is a message's payload: a CBOR array.
type envelope struct {
	_         struct{} `cbor:",toarray"`
	Header    []byte   // CBOR of a Header, in its deterministic form
	Part      []byte   // of the body
	Key       []byte   // 8 bytes: the first of the SHA-256 of the public key's DER form
	Signature []byte   // Ed25519 of signed, Header and SHA-256(Part)
}

// Part is a message that was opened: its header, and its part of the body.
type Part struct {
	Header
	Data []byte
	Key  Hash // SHA-256 of the public key that it is signed with
}

func (p *Part) seen() Seen { return Seen{p.Seq, p.Header.Body, p.Key} }

// Keys are the gateways that are enrolled.
type Keys interface {
	Key(gateway string) (ed25519.PublicKey, bool)
}

// Find gives the public keys that a sender may sign with; from is "" for a
// coordinator, and id is as keyfile.ID gives it.
type Find func(from, id string) (ed25519.PublicKey, bool)

// Trusted finds the keys of coordinators alone.
func Trusted(keys []ed25519.PublicKey) Find {
	byID := map[string]ed25519.PublicKey{}
	for _, k := range keys {
		byID[keyfile.ID(k)] = k
	}
	return func(from, id string) (ed25519.PublicKey, bool) {
		k, ok := byID[id]
		return k, ok && from == ""
	}
}

// Enrolled finds the keys of gateways alone.
func Enrolled(keys Keys) Find {
	return func(from, id string) (ed25519.PublicKey, bool) {
		if from == "" {
			return nil, false
		}
		k, ok := keys.Key(from)
		return k, ok && keyfile.ID(k) == id
	}
}

// Seal gives the messages of a body, signed: as many as chunks of so many bytes
// need, 0 being DefaultChunk. Of the header, Kind, Task, Round, Base, Seq, From
// and To are the caller's.
func Seal(h Header, body []byte, chunk int, key ed25519.PrivateKey) ([]Message, error) {
	if chunk == 0 {
		chunk = DefaultChunk
	}
	h.Format, h.Body, h.Bytes = Format, sha256.Sum256(body), len(body)
	h.Chunks = max(1, (len(body)+chunk-1)/chunk)
	list := make([]Message, h.Chunks)
	for i := range list {
		var err error
		h.Chunk = i
		if list[i], err = seal(h, body[i*chunk:min((i+1)*chunk, len(body))], key); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func seal(h Header, part []byte, key ed25519.PrivateKey) (Message, error) {
	if err := h.check(len(part)); err != nil {
		return Message{}, err
	}
	header, err := marshal(h)
	if err != nil {
		return Message{}, err
	}
	payload, err := marshal(envelope{Header: header, Part: part, Key: idOf(key), Signature: ed25519.Sign(key, toSign(header, part))})
	if err != nil {
		return Message{}, err
	}
	if len(payload) > maxMessage {
		return Message{}, refuse(TooLarge, "a message of %d bytes, more than %d", len(payload), maxMessage)
	}
	return Message{Topic: h.Topic(), Payload: payload, Retain: h.Kind.retained()}, nil
}

// idOf is the id of a key pair as it travels.
func idOf(key ed25519.PrivateKey) []byte {
	id, err := hex.DecodeString(keyfile.ID(key.Public().(ed25519.PublicKey)))
	if err != nil {
		panic(err) // it is hex digits
	}
	return id
}

func toSign(header, part []byte) []byte {
	sum := sha256.Sum256(part)
	return append(append([]byte(signed), header...), sum[:]...)
}

func (k Kind) retained() bool { return k == KindTask || k == KindModel || k == KindCall }

// Peek reads the header of a message without looking at its signature: what it
// says is nothing to build on, but enough to see whether it is wanted.
func Peek(m Message) (Header, error) {
	p, _, err := open(m)
	if err != nil {
		return Header{}, err
	}
	return p.Header, nil
}

// Open reads a message and looks at all that it can say alone: its size, its
// form, its topic, its numbers, the key and the signature. An error is a
// Refusal.
func Open(m Message, find Find) (*Part, error) {
	p, e, err := open(m)
	if err != nil {
		return nil, err
	}
	id := hex.EncodeToString(e.Key)
	key, ok := find(p.From, id)
	if !ok {
		if p.From == "" {
			return nil, refuse(UnknownKey, "the coordinator's key %s is none of those that are trusted here (fl.keys, --trust)", id)
		}
		return nil, refuse(UnknownKey, "the key %s is not known as one of gateway %s", id, p.From)
	}
	if !ed25519.Verify(key, toSign(e.Header, e.Part), e.Signature) {
		return nil, refuse(BadSign, "the signature is not that of key %s", id)
	}
	p.Key = sha256.Sum256(key)
	return p, nil
}

func open(m Message) (*Part, *envelope, error) {
	if len(m.Payload) > maxMessage {
		return nil, nil, refuse(TooLarge, "a message of %d bytes, more than %d", len(m.Payload), maxMessage)
	}
	var e envelope
	if err := unmarshal(m.Payload, &e); err != nil {
		return nil, nil, refuse(Malformed, "the envelope: %v", err)
	}
	if len(e.Header) > maxHeader || len(e.Key) != 8 || len(e.Signature) != ed25519.SignatureSize {
		return nil, nil, refuse(Malformed, "the envelope has a header of %d bytes, a key id of %d and a signature of %d", len(e.Header), len(e.Key), len(e.Signature))
	}
	p := &Part{Data: e.Part}
	if err := unmarshal(e.Header, &p.Header); err != nil {
		return nil, nil, refuse(Malformed, "the header: %v", err)
	}
	if again, err := marshal(p.Header); err != nil || !bytes.Equal(again, e.Header) {
		return nil, nil, refuse(Malformed, "the header is not in the deterministic form of CBOR")
	}
	if err := p.check(len(e.Part)); err != nil {
		return nil, nil, err
	}
	if p.Chunks == 1 && sha256.Sum256(e.Part) != p.Body {
		return nil, nil, refuse(BadBody, "the body is not the one that the header names")
	}
	if t := p.Topic(); t != m.Topic {
		return nil, nil, refuse(BadTopic, "it came on %.300q and belongs on %q", m.Topic, t)
	}
	return p, &e, nil
}

// check looks at a header alone, for a part of n bytes.
func (h *Header) check(n int) error {
	if h.Format != Format {
		return refuse(BadFormat, "format %d; this program speaks %d", h.Format, Format)
	}
	if err := CheckName(h.Task); err != nil {
		return refuse(Malformed, "task: %v", err)
	}
	from, to := false, false
	switch h.Kind {
	case KindTask, KindModel:
	case KindCall:
		to = true
	case KindHello, KindUpdate, KindReport:
		from = true
	default:
		return refuse(BadKind, "there is no kind %.20q", h.Kind)
	}
	for _, name := range []struct {
		is   string
		want bool
	}{{h.From, from}, {h.To, to}} {
		if (name.is != "") != name.want {
			return refuse(BadKind, "a %s is from %q to %q", h.Kind, h.From, h.To)
		}
		if name.want {
			if err := CheckName(name.is); err != nil {
				return refuse(Malformed, "gateway: %v", err)
			}
		}
	}
	if h.Round < 0 || h.Round > maxRound {
		return refuse(Malformed, "round %d", h.Round)
	}
	many := h.Kind == KindModel || h.Kind == KindUpdate
	if h.Chunks < 1 || h.Chunks > maxChunks || h.Chunk < 0 || h.Chunk >= h.Chunks || h.Bytes < 1 || h.Bytes > maxBody || h.Chunks > 1 && !many {
		return refuse(BadChunk, "chunk %d of %d of a %s of %d bytes", h.Chunk, h.Chunks, h.Kind, h.Bytes)
	}
	if size, ok := h.size(n); !ok || h.Chunks > 1 && size < MinChunk {
		return refuse(BadChunk, "chunk %d of %d has %d bytes of %d", h.Chunk, h.Chunks, n, h.Bytes)
	}
	return nil
}

// size is how long the chunks of a body are, the last one apart, where this one
// has n bytes; false where that cannot be.
func (h *Header) size(n int) (int, bool) {
	last := h.Chunks - 1
	switch {
	case last == 0:
		return n, n == h.Bytes
	case h.Chunk < last:
		return n, n*last < h.Bytes && h.Bytes <= n*h.Chunks
	default:
		size := (h.Bytes - n) / last
		return size, n >= 1 && n <= size && size*last+n == h.Bytes
	}
}

// same says whether two parts belong to one body.
func (h *Header) same(o *Header) bool {
	a, b := *h, *o
	a.Chunk, b.Chunk = 0, 0
	return a == b
}

// String says whose message it is, for logs.
func (h *Header) String() string {
	var b strings.Builder
	b.WriteString(string(h.Kind) + " of task " + h.Task)
	if h.From != "" {
		b.WriteString(" from " + h.From)
	}
	if h.To != "" {
		b.WriteString(" to " + h.To)
	}
	return b.String()
}

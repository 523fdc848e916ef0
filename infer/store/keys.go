package store

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// Key is a public key of somebody whose bundles are trusted.
type Key struct {
	ID   string // 16 hex digits
	File string // it was read from
	key  ed25519.PublicKey
}

// KeyID names a public key: the first 16 hex digits of the SHA-256 of its DER
// form (SubjectPublicKeyInfo), as `openssl pkey -pubin -outform DER` gives it.
func KeyID(key ed25519.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err) // an Ed25519 key always has one
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8])
}

// NewKey makes a pair of Ed25519 keys as PEM: PKCS #8 and SubjectPublicKeyInfo,
// as openssl reads and writes them. id is what KeyID gives.
func NewKey() (private, public []byte, id string, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, "", err
	}
	a, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, "", err
	}
	b, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, nil, "", err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: a}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}), KeyID(pub), nil
}

// maxKeyFile bounds a file of keys: room for hundreds.
const maxKeyFile = 64 << 10

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s: %w: more than %d bytes", path, ErrTooLarge, most)
	}
	return b, err
}

// ReadKeys reads files with public keys, one or several in each.
func ReadKeys(files ...string) ([]Key, error) {
	var keys []Key
	for _, path := range files {
		text, err := readBounded(path, maxKeyFile)
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		before := len(keys)
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "PRIVATE KEY" {
				return nil, fmt.Errorf("key: %s holds a private key; those who check need the public one alone", path)
			}
			k, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("key: %s: %w", path, err)
			}
			pub, ok := k.(ed25519.PublicKey)
			if !ok {
				return nil, fmt.Errorf("key: %s holds a key of another kind than Ed25519", path)
			}
			keys = append(keys, Key{KeyID(pub), path, pub})
		}
		if len(keys) == before {
			return nil, fmt.Errorf("key: %s holds no public key (PEM); `keys new` makes a pair", path)
		}
	}
	return keys, nil
}

// ReadPrivateKey reads the key that signs.
func ReadPrivateKey(path string) (ed25519.PrivateKey, error) {
	text, err := readBounded(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("key: %s holds no private key (PEM, PKCS #8); `keys new` makes a pair", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key: %s: %w", path, err)
	}
	priv, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("key: " + path + " is of another kind than Ed25519")
	}
	return priv, nil
}

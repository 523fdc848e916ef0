package keyfile

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
	"io/fs"
	"os"
)

// Key is a public key of somebody who is trusted.
type Key struct {
	ID     string // 16 hex digits
	File   string // it was read from
	Public ed25519.PublicKey
}

// ID names a public key: the first 16 hex digits of the SHA-256 of its DER
// form (SubjectPublicKeyInfo), as `openssl pkey -pubin -outform DER` gives it.
func ID(key ed25519.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err) // an Ed25519 key always has one
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8])
}

// New makes a pair of Ed25519 keys as PEM: PKCS #8 and SubjectPublicKeyInfo,
// as openssl reads and writes them. id is what ID gives.
func New() (private, public []byte, id string, err error) {
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
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: a}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}), ID(pub), nil
}

// maxFile bounds a file of keys: room for hundreds.
const maxFile = 64 << 10

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key: %w; `keys new` makes a pair", err)
	}
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("key: %s is too large for a file of keys: more than %d bytes", path, maxFile)
	}
	return b, nil
}

// Read reads files with public keys, one or several in each.
func Read(files ...string) ([]Key, error) {
	var keys []Key
	for _, path := range files {
		text, err := read(path)
		if err != nil {
			return nil, err
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
			keys = append(keys, Key{ID(pub), path, pub})
		}
		if len(keys) == before {
			return nil, fmt.Errorf("key: %s holds no public key (PEM); `keys new` makes a pair", path)
		}
	}
	return keys, nil
}

// ReadPrivate reads the key that signs.
func ReadPrivate(path string) (ed25519.PrivateKey, error) {
	text, err := read(path)
	if err != nil {
		return nil, err
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

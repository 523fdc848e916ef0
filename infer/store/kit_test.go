package store

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"edgegateway/infer/model"
	"edgegateway/internal/keyfile"
)

// aModel is a small .tflite file that tells itself apart from others by n.
func aModel(t testing.TB, n int) []byte {
	t.Helper()
	data, err := os.ReadFile("../model/testdata/dense_int8.tflite")
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	m.SetMeta("n", fmt.Appendf(nil, "number %d", n))
	if data, err = m.Write(); err != nil {
		t.Fatal(err)
	}
	return data
}

// aBundle is the manifest of a bundle with all parts that there are, and the
// parts.
func aBundle(t testing.TB, name, version string, n int) (Manifest, map[string][]byte) {
	t.Helper()
	parts := map[string][]byte{
		"model.tflite":    aModel(t, n),
		"labels.txt":      []byte("off\non\n"),
		"reference.json":  fmt.Appendf(nil, `{"n":%d}`, n),
		"golden/0/in.bin": {1, 2, 3, 4}, "golden/0/out.bin": {5, 6},
	}
	half := 0.5
	m := Manifest{
		Format: Format, Name: name, Version: version, Created: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
		Model: "model.tflite", Labels: "labels.txt", Reference: "reference.json", Files: map[string]Part{},
		Golden:   []Golden{{Inputs: []string{"golden/0/in.bin"}, Outputs: []string{"golden/0/out.bin"}, Tolerance: 1}},
		Settings: Settings{Output: "classes", Threshold: &half, Top: 2}, Limits: Limits{Millis: 20, MemoryBytes: 1 << 20},
		Licence: "Apache-2.0", Provenance: "made for a test",
	}
	for name, data := range parts {
		m.Files[name] = PartOf(data)
	}
	return m, parts
}

// bundleFile writes a bundle.
func bundleFile(t testing.TB, m Manifest, parts map[string][]byte, key ed25519.PrivateKey) string {
	t.Helper()
	var out bytes.Buffer
	if err := WriteBundle(&out, m, parts, key); err != nil {
		t.Fatal(err)
	}
	return write(t, m.Name+"-"+m.Version+Ext, out.Bytes())
}

// write writes a file into a folder of its own.
func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// aKey makes a pair and gives the private key with the file of the public one.
func aKey(t testing.TB) (ed25519.PrivateKey, string) {
	t.Helper()
	private, public, _, err := keyfile.New()
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyfile.ReadPrivate(write(t, "key.pem", private))
	if err != nil {
		t.Fatal(err)
	}
	return key, write(t, "key.pub", public)
}

func open(t testing.TB, dir string, cfg Config) *Store {
	t.Helper()
	s, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// add adds a bundle with all parts.
func add(t testing.TB, s *Store, name, version string, n int) Version {
	t.Helper()
	m, parts := aBundle(t, name, version, n)
	v, err := s.Add(context.Background(), name, bundleFile(t, m, parts, nil), "a test")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func state(t testing.TB, s *Store) State {
	t.Helper()
	st, err := s.State()
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func do(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

package store

import (
	"bytes"
	"os"
	"testing"

	"edgegateway/internal/keyfile"

	"github.com/google/go-cmp/cmp"
)

// FuzzReadBundle reads bundles that anybody may send: never a panic, never more
// than the bounds, and no part that does not fit its hash.
func FuzzReadBundle(f *testing.F) {
	key, pub := aKey(f)
	keys, err := keyfile.Read(pub)
	do(f, err)
	m, parts := aBundle(f, "door", "1", 1)
	data, err := os.ReadFile(bundleFile(f, m, parts, key))
	do(f, err)
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add([]byte("PK\x03\x04"))
	bounds := Bounds{Bundle: 1 << 20, Part: 64 << 10, Total: 128 << 10}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ReadBundle(bytes.NewReader(data), int64(len(data)), bounds)
		if err != nil {
			return
		}
		if b.Manifest.Bytes() > bounds.Total {
			t.Fatalf("it unpacks to %d bytes", b.Manifest.Bytes())
		}
		for name, p := range b.Manifest.Files {
			if part, err := b.Part(name, nil); err == nil && (PartOf(part) != p || int64(len(part)) > bounds.Part) {
				t.Fatalf("%s is not what the manifest says", name)
			}
		}
		if b.Verify(keys) == nil && b.Manifest.Name != "door" {
			t.Fatal("another manifest is signed")
		}
	})
}

// FuzzParseManifest reads manifests: what is taken can be written, and is the
// same then.
func FuzzParseManifest(f *testing.F) {
	m, _ := aBundle(f, "door", "1", 1)
	text, err := m.Encode()
	do(f, err)
	f.Add(text)
	f.Add([]byte(`{"format":1,"name":"a","version":"1","model":"m","files":{"m":{"bytes":1,"sha256":""}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("it cannot be written: %v", err)
		}
		n, err := ParseManifest(again)
		if err != nil || !cmp.Equal(m, n) {
			t.Fatalf("it comes back otherwise: %v\n%s", err, cmp.Diff(m, n))
		}
	})
}

// FuzzParseState reads state files that a disk may have damaged.
func FuzzParseState(f *testing.F) {
	dir := f.TempDir()
	s := open(f, dir, DefaultConfig())
	add(f, s, "door", "1", 1)
	add(f, s, "door", "2", 2)
	do(f, s.Activate("door", "1", "a test"))
	do(f, s.Want("door", Want{Version: "2", Do: DoRollout}))
	text, err := os.ReadFile(s.path("state.json"))
	do(f, err)
	f.Add(text)
	f.Add([]byte(`{"format":1,"models":{"a":null}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		st, err := parseState(text)
		if err != nil {
			return
		}
		again, err := st.encode()
		if err != nil {
			t.Fatalf("it cannot be written: %v", err)
		}
		n, err := parseState(again)
		if err != nil || !cmp.Equal(st.clone(), n.clone()) {
			t.Fatalf("it comes back otherwise: %v\n%s", err, cmp.Diff(st, n))
		}
	})
}

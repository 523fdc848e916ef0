package store

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"edgegateway/infer/model/pack"
	"edgegateway/internal/keyfile"
)

// TestBundleBack writes bundles and reads them: what went in comes out, and the
// same goes in as the same bytes.
func TestBundleBack(t *testing.T) {
	key, pub := aKey(t)
	keys, err := keyfile.Read(pub)
	do(t, err)
	m, parts := aBundle(t, "door", "1.2", 1)
	var one, two, unsigned bytes.Buffer
	do(t, WriteBundle(&one, m, parts, key))
	do(t, WriteBundle(&two, m, parts, key))
	do(t, WriteBundle(&unsigned, m, parts, nil))
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the same bundle has other bytes")
	}
	b := read(t, one.Bytes())
	if diff := cmp.Diff(m, b.Manifest); diff != "" {
		t.Errorf("manifest:\n%s", diff)
	}
	for name, want := range parts {
		if got, err := b.Part(name, nil); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	do(t, b.Verify(keys))
	u := read(t, unsigned.Bytes())
	if err := u.Verify(keys); !errors.Is(err, ErrUnsigned) {
		t.Errorf("unsigned: %v", err)
	}
	var later bytes.Buffer
	do(t, u.Sign(&later, key))
	if !bytes.Equal(later.Bytes(), one.Bytes()) {
		t.Error("a bundle that was signed later is another")
	}
}

// TestThin carries a model packed, on its own and on the base of an older
// version: the signature holds for both, and the store finds the base.
func TestThin(t *testing.T) {
	key, pub := aKey(t)
	cfg := DefaultConfig()
	cfg.Keys, cfg.RequireSigned = []string{pub}, true
	s := open(t, t.TempDir(), cfg)
	m, parts := aBundle(t, "door", "2", 2)
	old := aModel(t, 1)
	thin, err := pack.Pack(parts["model.tflite"], old)
	do(t, err)
	want := parts["model.tflite"]
	parts["model.tflite"] = thin
	file := bundleFile(t, m, parts, key)
	if _, err := s.Add(context.Background(), "", file, ""); !errors.Is(err, pack.ErrNoBase) {
		t.Errorf("without its base: %v", err)
	}
	m1, parts1 := aBundle(t, "door", "1", 1)
	whole, err := pack.Pack(parts1["model.tflite"], nil)
	do(t, err)
	parts1["model.tflite"] = whole
	_, err = s.Add(context.Background(), "", bundleFile(t, m1, parts1, key), "")
	do(t, err)
	v, err := s.Add(context.Background(), "", file, "")
	do(t, err)
	f, err := s.Files("door", "2")
	do(t, err)
	if got, err := os.ReadFile(f.Model); err != nil || !bytes.Equal(got, want) || v.Model != sumOf(want) {
		t.Errorf("the model does not come back: %v", err)
	}
	// One that says of itself that it is more than the manifest does is not unpacked.
	m.Version = "3"
	m.Files["model.tflite"] = Part{5, sumOf(want)}
	if _, err := s.Add(context.Background(), "", bundleFile(t, m, parts, key), ""); !errors.Is(err, ErrDamaged) {
		t.Errorf("a packed model of another size: %v", err)
	}
}

func read(t testing.TB, data []byte) *Bundle {
	t.Helper()
	b, err := ReadBundle(bytes.NewReader(data), int64(len(data)), Bounds{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// entry is a file of a zip that a test makes by hand.
type entry struct {
	name  string
	data  []byte
	mode  fs.FileMode
	claim int64 // the size that its header says, where it is not that of data
	spoil func(*zip.FileHeader)
}

func zipOf(t testing.TB, comment string, list ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, e := range list {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(e.data), UncompressedSize64: uint64(len(e.data))}
		var small bytes.Buffer
		if len(e.data) == 0 {
			h.Method = zip.Store
		} else {
			c, err := flate.NewWriter(&small, flate.BestSpeed)
			do(t, err)
			_, err = c.Write(e.data)
			do(t, errors.Join(err, c.Close()))
		}
		h.CompressedSize64 = uint64(small.Len())
		if e.claim != 0 {
			h.UncompressedSize64 = uint64(e.claim)
		}
		if e.mode != 0 {
			h.SetMode(e.mode)
		}
		if e.spoil != nil {
			e.spoil(h)
		}
		w, err := z.CreateRaw(h)
		do(t, err)
		if small.Len() > 0 {
			_, err = w.Write(small.Bytes())
			do(t, err)
		}
	}
	do(t, z.SetComment(comment))
	do(t, z.Close())
	return out.Bytes()
}

// TestRefused names what is wrong with bundles that no store may take.
func TestRefused(t *testing.T) {
	m, parts := aBundle(t, "door", "1", 1)
	text, err := m.Encode()
	do(t, err)
	good := []entry{{name: manifestName, data: text}}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		good = append(good, entry{name: name, data: parts[name]})
	}
	with := func(more ...entry) []entry { return append(slices.Clone(good), more...) }
	changed := func(name string, change func(*entry)) []entry {
		list := slices.Clone(good)
		at := slices.IndexFunc(list, func(e entry) bool { return e.name == name })
		change(&list[at])
		return list
	}
	manifest := func(change func(*Manifest)) []entry {
		n := m
		n.Files = maps.Clone(m.Files)
		change(&n)
		text, err := json.Marshal(n)
		do(t, err)
		return changed(manifestName, func(e *entry) { e.data = text })
	}
	random := make([]byte, 5000)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	whole := zipOf(t, "", good...)
	do(t, accepts(t, whole))
	zeros := make([]byte, 3<<20)
	for _, c := range []struct {
		name string
		data []byte
		err  error
		say  string
	}{
		{"nothing", nil, ErrDamaged, "model"},
		{"random bytes", random, ErrDamaged, "model"},
		{"random bytes that begin as a bundle", append([]byte("PK\x03\x04"), random...), ErrDamaged, "cut short"},
		{"cut short", whole[:len(whole)-7], ErrDamaged, "cut short"},
		{"half of it", whole[:len(whole)/2], ErrDamaged, "cut short"},
		{"bytes behind it", append(slices.Clone(whole), "more"...), ErrDamaged, "does not end"},
		{"bytes in front", append([]byte("PK\x03\x04 and more"), whole...), ErrDamaged, "list of files"},
		{"a comment", zipOf(t, "a comment", good...), ErrDamaged, "does not end"},
		{"no manifest", zipOf(t, "", good[1:]...), ErrDamaged, "no manifest.json"},
		{"a part is missing", zipOf(t, "", good[:3]...), ErrDamaged, "is missing"},
		{"a file of its own", zipOf(t, "", with(entry{name: "virus.sh", data: []byte("x")})...), ErrDamaged, "virus.sh is not in the manifest"},
		{"a file twice", zipOf(t, "", with(good[1])...), ErrDamaged, "twice"},
		{"a file twice but for case", zipOf(t, "", with(entry{name: strings.ToUpper(good[1].name), data: good[1].data})...), ErrDamaged, "twice"},
		{"out of the folder", zipOf(t, "", with(entry{name: "../../etc/passwd", data: []byte("x")})...), ErrDamaged, "passwd"},
		{"from the root", zipOf(t, "", with(entry{name: "/etc/passwd", data: []byte("x")})...), ErrDamaged, "passwd"},
		{"as Windows has it", zipOf(t, "", with(entry{name: `..\passwd`, data: []byte("x")})...), ErrDamaged, "passwd"},
		{"hidden", zipOf(t, "", with(entry{name: "golden/.ssh", data: []byte("x")})...), ErrDamaged, ".ssh"},
		{"with a control character", zipOf(t, "", with(entry{name: "a\x1bb", data: []byte("x")})...), ErrDamaged, "plain path"},
		{"a folder", zipOf(t, "", with(entry{name: "golden/"})...), ErrDamaged, "plain path"},
		{"a link", zipOf(t, "", changed("labels.txt", func(e *entry) { e.mode = fs.ModeSymlink | 0o777 })...), ErrDamaged, "labels.txt is no plain file"},
		{"a device", zipOf(t, "", changed("labels.txt", func(e *entry) { e.mode = fs.ModeDevice | 0o600 })...), ErrDamaged, "labels.txt is no plain file"},
		{"encrypted", zipOf(t, "", changed("labels.txt", func(e *entry) { e.spoil = func(h *zip.FileHeader) { h.Flags |= 1 } })...), ErrDamaged, "encrypted"},
		{"compressed otherwise", zipOf(t, "", changed("labels.txt", func(e *entry) { e.spoil = func(h *zip.FileHeader) { h.Method = 12 } })...), ErrDamaged, "compressed"},
		{"other labels", zipOf(t, "", changed("labels.txt", func(e *entry) { e.data = []byte("on\noff\n") })...), ErrDamaged, "labels.txt"},
		{"labels that are none", zipOf(t, "", relabelled(t, m, good, nil)...), ErrDamaged, "labels"},
		{"a bomb that says so", zipOf(t, "", manifest(func(n *Manifest) { n.Files["labels.txt"] = Part{600 << 20, sumOf(nil)} })...), ErrTooLarge, "labels.txt unpacks to"},
		{"a bomb in many parts", zipOf(t, "", manifest(func(n *Manifest) {
			for name := range n.Files {
				n.Files[name] = Part{300 << 20, sumOf(nil)}
			}
		})...), ErrTooLarge, "unpacks to"},
		{"a bomb that does not say so", zipOf(t, "", changed("labels.txt", func(e *entry) { e.data, e.claim = zeros, 7 })...), ErrTooLarge, "labels.txt unpacks to more than 7"},
		{"a manifest that is a bomb", zipOf(t, "", changed(manifestName, func(e *entry) { e.data = zeros })...), ErrTooLarge, "manifest.json unpacks"},
		{"a signature that is a bomb", zipOf(t, "", with(entry{name: signatureName, data: zeros})...), ErrTooLarge, "manifest.sig unpacks"},
		{"a signature that is none", zipOf(t, "", with(entry{name: signatureName, data: []byte(`{"key":"me","ed25519":"AAAA"}`)})...), ErrDamaged, "no signature"},
		{"too many files", zipOf(t, "", many(2000)...), ErrTooLarge, "2000 files"},
		{"more files than it says", manyMore(t, 66000), ErrTooLarge, "a list of"},
		{"a model that is none", zipOf(t, "", modelled(t, m, good, random)...), ErrDamaged, "model"},
		{"a model cut short", zipOf(t, "", modelled(t, m, good, parts["model.tflite"][:300])...), ErrDamaged, "model"},
		{"an unknown key in the manifest", zipOf(t, "", changed(manifestName, func(e *entry) {
			e.data = bytes.Replace(text, []byte(`"format"`), []byte(`"run": "rm", "format"`), 1)
		})...), ErrDamaged, "run"},
		{"a newer format", zipOf(t, "", manifest(func(n *Manifest) { n.Format = 2 })...), nil, "format is 2"},
		{"a version of the configuration", zipOf(t, "", manifest(func(n *Manifest) { n.Version = "0.1" })...), nil, "begin with 0"},
		{"a name that is a path", zipOf(t, "", manifest(func(n *Manifest) { n.Name = "../door" })...), nil, "name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := accepts(t, c.data)
			if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.say) || !strings.HasPrefix(err.Error(), "in.bundle: ") {
				t.Errorf("it says: %v", err)
			}
		})
	}
}

// accepts adds a file to a store, which holds nothing after an error.
func accepts(t *testing.T, data []byte) error {
	t.Helper()
	s := open(t, t.TempDir(), DefaultConfig())
	_, _, err := s.AddNamed(context.Background(), "", write(t, "in.bundle", data), "")
	if st := state(t, s); err != nil && len(st.Models) > 0 {
		t.Errorf("it was refused, and there is %v", st.Models)
	}
	nothingLeft(t, s)
	return err
}

// modelled has another model, and a manifest that knows it.
func modelled(t *testing.T, m Manifest, good []entry, data []byte) []entry {
	return replaced(t, m, good, "model.tflite", data)
}

func relabelled(t *testing.T, m Manifest, good []entry, data []byte) []entry {
	return replaced(t, m, good, "labels.txt", data)
}

func replaced(t *testing.T, m Manifest, good []entry, name string, data []byte) []entry {
	t.Helper()
	m.Files = maps.Clone(m.Files)
	m.Files[name] = PartOf(data)
	text, err := m.Encode()
	do(t, err)
	list := slices.Clone(good)
	for i := range list {
		switch list[i].name {
		case name:
			list[i].data = data
		case manifestName:
			list[i].data = text
		}
	}
	return list
}

func many(n int) (list []entry) {
	for i := range n {
		list = append(list, entry{name: fmt.Sprint("f", i)})
	}
	return list
}

// manyMore is a zip of n > 65,536 files whose end says that there are fewer, as
// it has 16 bits for them.
func manyMore(t *testing.T, n int) []byte {
	data := zipOf(t, "", many(n)...)
	le := binary.LittleEndian
	// The 64-bit end and where it is stand before the end; the end is made as
	// that of an old zip.
	end := data[len(data)-endLength:]
	at := int64(bytes.Index(data, []byte("PK\x01\x02")))
	data = append(data[:len(data)-endLength-20-56], end...)
	end = data[len(data)-endLength:]
	le.PutUint16(end[8:], uint16(n-65536))
	le.PutUint16(end[10:], uint16(n-65536))
	le.PutUint32(end[12:], uint32(int64(len(data))-endLength-at))
	le.PutUint32(end[16:], uint32(at))
	return data
}

// TestFlipped flips bits of signed bundles: each is refused, or is read as what
// was signed.
func TestFlipped(t *testing.T) {
	key, pub := aKey(t)
	keys, err := keyfile.Read(pub)
	do(t, err)
	m, parts := aBundle(t, "door", "1", 1)
	var out bytes.Buffer
	do(t, WriteBundle(&out, m, parts, key))
	good := out.Bytes()
	rapid.Check(t, func(rt *rapid.T) {
		data := bytes.Clone(good)
		for range rapid.IntRange(1, 3).Draw(rt, "flips") {
			data[rapid.IntRange(0, len(data)-1).Draw(rt, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		}
		b, err := ReadBundle(bytes.NewReader(data), int64(len(data)), Bounds{})
		if err != nil || b.Verify(keys) != nil {
			return
		}
		if !bytes.Equal(b.Text, mustEncode(rt, m)) {
			rt.Fatal("another manifest has a signature that fits")
		}
		for name, want := range parts {
			if got, err := b.Part(name, nil); err == nil && !bytes.Equal(got, want) {
				rt.Fatalf("%s was changed and fits its hash", name)
			}
		}
	})
}

func mustEncode(t interface{ Fatal(...any) }, m Manifest) []byte {
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

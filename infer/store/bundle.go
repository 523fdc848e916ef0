package store

import (
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"edgegateway/infer/model/pack"
	"edgegateway/internal/keyfile"
)

// Ext is how files of bundles are named.
const Ext = ".bundle"

// The two files of a bundle that are not its parts.
const (
	manifestName  = "manifest.json"
	signatureName = "manifest.sig"
)

// Errors of bundles; what is returned wraps one of them and says more.
var (
	ErrUnsigned  = errors.New("not signed")
	ErrWrongKey  = errors.New("signed with a key that is not trusted")
	ErrSignature = errors.New("the signature does not fit")
	ErrTooLarge  = errors.New("too large")
)

// Bounds are what a bundle may take, in bytes; a field of 0 is the default.
type Bounds struct {
	Bundle int64 // the file
	Part   int64 // of one part, unpacked
	Total  int64 // of all parts, unpacked
}

func defaultBounds() Bounds { return Bounds{Bundle: 1 << 30, Part: 512 << 20, Total: 1 << 30} }

func (b Bounds) orDefault() Bounds {
	d := defaultBounds()
	return Bounds{cmp.Or(b.Bundle, d.Bundle), cmp.Or(b.Part, d.Part), cmp.Or(b.Total, d.Total)}
}

// Bundle is a bundle that was opened: its manifest is checked, its parts are
// when they are read.
type Bundle struct {
	Manifest Manifest
	Text     []byte // of the manifest, as it was signed
	KeyID    string // of the key that the signature names; "" unsigned

	signature []byte // the file
	files     map[string]*zip.File
	bounds    Bounds
}

// signed is the file manifest.sig.
type signed struct {
	Key       string `json:"key"`     // keyfile.ID of the public key
	Signature string `json:"ed25519"` // base64, over the manifest's bytes
}

// maxSignature bounds manifest.sig.
const maxSignature = 4 << 10

// maxDirectory bounds the list of files at the end of the zip, so that it takes
// no memory to speak of.
const maxDirectory = 1 << 20

// endLength is the end record of a zip without a comment.
const endLength = 22

// checkEnd holds the end of a zip against what this program writes: no comment,
// no 64-bit fields, the directory right before it, and not too long. archive/zip
// would read as many entries as there are.
func checkEnd(r io.ReaderAt, size int64) error {
	var end [endLength]byte
	if size < endLength {
		return damaged("%d bytes are no bundle", size)
	}
	if _, err := r.ReadAt(end[:], size-endLength); err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint32(end[:]) != 0x06054b50 || le.Uint32(end[4:]) != 0 || le.Uint16(end[20:]) != 0 {
		return damaged("it does not end as a bundle does: cut short, or no bundle at all")
	}
	entries, length, at := int64(le.Uint16(end[10:])), int64(le.Uint32(end[12:])), int64(le.Uint32(end[16:]))
	if entries > maxFiles+2 || length > maxDirectory {
		return fmt.Errorf("%w: %d files with a list of %d bytes", ErrTooLarge, entries, length)
	}
	if at+length+endLength != size {
		return damaged("its list of files is not where it should be")
	}
	return nil
}

// ReadBundle opens a bundle, trusting nothing in it. A field of bounds that is 0
// is 1 GiB of the file, 512 MiB of a part, 1 GiB of all parts.
func ReadBundle(r io.ReaderAt, size int64, bounds Bounds) (*Bundle, error) {
	b := &Bundle{files: map[string]*zip.File{}, bounds: bounds.orDefault()}
	if size > b.bounds.Bundle {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrTooLarge, size, b.bounds.Bundle)
	}
	if err := b.open(r, size); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Bundle) open(r io.ReaderAt, size int64) error {
	if err := checkEnd(r, size); err != nil {
		return err
	}
	z, err := zip.NewReader(r, size)
	if err != nil {
		return damaged("%v", err)
	}
	folded := map[string]bool{}
	for _, f := range z.File {
		if err := checkEntry(f, size); err != nil {
			return err
		}
		if low := strings.ToLower(f.Name); folded[low] {
			return damaged("file %s is in it twice", f.Name)
		} else {
			folded[low] = true
		}
		b.files[f.Name] = f
	}
	if b.Text, err = b.small(manifestName, maxManifest); err != nil {
		return err
	}
	if b.Manifest, err = ParseManifest(b.Text); err != nil {
		return err
	}
	if err := b.match(); err != nil {
		return err
	}
	if b.files[signatureName] == nil {
		return nil
	}
	if b.signature, err = b.small(signatureName, maxSignature); err != nil {
		return err
	}
	_, b.KeyID, err = parseSignature(b.signature)
	return err
}

// checkEntry refuses what this program never writes into a bundle.
func checkEntry(f *zip.File, size int64) error {
	if err := checkPath(f.Name); err != nil {
		return err
	}
	if !f.Mode().IsRegular() {
		return damaged("%s is no plain file but %v", f.Name, f.Mode().Type())
	}
	if f.Method != zip.Store && f.Method != zip.Deflate || f.Flags&1 != 0 {
		return damaged("%s is compressed in a way, or encrypted, that no bundle is", f.Name)
	}
	if f.CompressedSize64 > uint64(size) {
		return damaged("%s claims %d bytes of a bundle of %d", f.Name, f.CompressedSize64, size)
	}
	return nil
}

// match holds the files of the zip against those of the manifest.
func (b *Bundle) match() error {
	var total int64
	for _, name := range slices.Sorted(maps.Keys(b.Manifest.Files)) {
		p := b.Manifest.Files[name]
		f := b.files[name]
		if f == nil {
			return damaged("file %s is missing", name)
		}
		if p.Bytes > b.bounds.Part || f.UncompressedSize64 > uint64(b.bounds.Part) {
			return fmt.Errorf("%w: %s unpacks to %d bytes, more than %d", ErrTooLarge, name, max(uint64(p.Bytes), f.UncompressedSize64), b.bounds.Part)
		}
		total += max(p.Bytes, int64(f.UncompressedSize64))
	}
	if total > b.bounds.Total {
		return fmt.Errorf("%w: it unpacks to %d bytes, more than %d", ErrTooLarge, total, b.bounds.Total)
	}
	for _, name := range slices.Sorted(maps.Keys(b.files)) {
		if _, ok := b.Manifest.Files[name]; !ok && name != manifestName && name != signatureName {
			return damaged("file %s is not in the manifest", name)
		}
	}
	return nil
}

// small reads a file of the zip of at most so many bytes.
func (b *Bundle) small(name string, most int64) ([]byte, error) {
	f := b.files[name]
	if f == nil {
		return nil, damaged("there is no %s", name)
	}
	r, err := f.Open()
	if err != nil {
		return nil, damaged("%s: %v", name, err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if int64(len(data)) > most || errors.Is(err, zip.ErrFormat) { // of a reader: there is more than the header says
		return nil, fmt.Errorf("%w: %s unpacks to more than %d bytes", ErrTooLarge, name, min(uint64(most), f.UncompressedSize64))
	}
	if err != nil {
		return nil, damaged("%s: %v", name, err)
	}
	return data, nil
}

// Packed gives the bytes of a part as they travel: those of a model may be a
// packed one.
func (b *Bundle) Packed(name string) ([]byte, error) {
	p, ok := b.Manifest.Files[name]
	if !ok {
		return nil, damaged("there is no part %q", name)
	}
	most := p.Bytes
	if b.isModel(name) {
		most = min(b.bounds.Part, p.Bytes+1<<20) // a model that cannot be made smaller is packed a little larger
	}
	return b.small(name, most)
}

func (b *Bundle) isModel(name string) bool {
	return name == b.Manifest.Model || name == b.Manifest.Accelerated
}

// Part gives the bytes of a part, unpacked and held against its hash. base is
// asked for the model that a packed one builds on, as pack.Unpack does; nil:
// there is none.
func (b *Bundle) Part(name string, base func(sum [32]byte) ([]byte, error)) ([]byte, error) {
	data, err := b.Packed(name)
	if err != nil {
		return nil, err
	}
	p := b.Manifest.Files[name]
	if b.isModel(name) && pack.Is(data) {
		if data, err = unpack(data, p, base); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if PartOf(data) != p {
		return nil, damaged("%s has %d bytes with SHA-256 %s, the manifest says %d with %s", name, len(data), sumOf(data), p.Bytes, p.SHA256)
	}
	return data, nil
}

// unpack gives the model of a packed one that says of itself that it is p.
func unpack(data []byte, p Part, base func([32]byte) ([]byte, error)) ([]byte, error) {
	h, err := pack.ReadHeader(data)
	if err != nil {
		return nil, damaged("%v", err)
	}
	if int64(h.Size) != p.Bytes {
		return nil, damaged("it unpacks to %d bytes, the manifest says %d", h.Size, p.Bytes)
	}
	out, err := pack.Unpack(data, base)
	if err != nil && !errors.Is(err, pack.ErrNoBase) {
		return nil, damaged("%v", err)
	}
	return out, err
}

// Verify says whether one of the keys signed the manifest.
func (b *Bundle) Verify(keys []keyfile.Key) error {
	if len(b.signature) == 0 {
		return ErrUnsigned
	}
	return verify(b.Text, b.signature, keys)
}

func verify(text, signature []byte, keys []keyfile.Key) error {
	sig, id, err := parseSignature(signature)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(keys, func(k keyfile.Key) bool { return k.ID == id })
	if at < 0 {
		return fmt.Errorf("%w: %s", ErrWrongKey, id)
	}
	if !ed25519.Verify(keys[at].Public, text, sig) {
		return fmt.Errorf("%w: the manifest is not the one that key %s signed", ErrSignature, id)
	}
	return nil
}

func parseSignature(text []byte) (sig []byte, key string, err error) {
	var s signed
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return nil, "", damaged("%s: %v", signatureName, err)
	}
	sig, err = base64.StdEncoding.DecodeString(s.Signature)
	if err != nil || len(sig) != ed25519.SignatureSize || len(s.Key) != 16 || strings.Trim(s.Key, "0123456789abcdef") != "" {
		return nil, "", damaged("%s holds no signature", signatureName)
	}
	return sig, s.Key, nil
}

func sign(text []byte, key ed25519.PrivateKey) ([]byte, error) {
	return json.Marshal(signed{keyfile.ID(key.Public().(ed25519.PublicKey)), base64.StdEncoding.EncodeToString(ed25519.Sign(key, text))})
}

// WriteBundle writes a bundle of a manifest and the bytes of its files, each as
// the manifest has it or, of a model, packed. key signs it; nil: nobody does.
// The same arguments give the same bytes.
func WriteBundle(w io.Writer, m Manifest, parts map[string][]byte, key ed25519.PrivateKey) error {
	text, err := m.Encode()
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	var sig []byte
	if key != nil {
		if sig, err = sign(text, key); err != nil {
			return err
		}
	}
	return writeZip(w, m, text, sig, parts)
}

// writeZip writes a bundle of a manifest's bytes, the file of its signature,
// which is empty for none, and parts.
func writeZip(w io.Writer, m Manifest, text, sig []byte, parts map[string][]byte) error {
	z := zip.NewWriter(w)
	put := func(name string, data []byte) error {
		method := zip.Deflate
		if pack.Is(data) {
			method = zip.Store
		}
		f, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err == nil {
			_, err = f.Write(data)
		}
		return err
	}
	if err := put(manifestName, text); err != nil {
		return err
	}
	if len(sig) > 0 {
		if err := put(signatureName, sig); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		data, ok := parts[name]
		if !ok {
			return fmt.Errorf("bundle: file %s: its bytes are missing", name)
		}
		if packed := (name == m.Model || name == m.Accelerated) && pack.Is(data); !packed && PartOf(data) != m.Files[name] {
			return fmt.Errorf("bundle: file %s: its bytes are not those of the manifest", name)
		}
		if err := put(name, data); err != nil {
			return err
		}
	}
	return z.Close()
}

// Sign writes the bundle again, signed with key in place of whoever signed it.
func (b *Bundle) Sign(w io.Writer, key ed25519.PrivateKey) error {
	parts := map[string][]byte{}
	for name := range b.Manifest.Files {
		data, err := b.Packed(name)
		if err != nil {
			return err
		}
		parts[name] = data
	}
	text, err := b.Manifest.Encode()
	if err != nil {
		return err
	}
	if !bytes.Equal(text, b.Text) {
		return damaged("bundle: another program wrote its manifest; make it anew")
	}
	return WriteBundle(w, b.Manifest, parts, key)
}

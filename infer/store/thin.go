package store

import (
	"fmt"
	"io"

	"edgegateway/infer/model/pack"
)

// Thin writes the bundle again with its model packed, as what changed since
// base, the bytes of an older version's .tflite; nil: packed by itself. Where
// that makes the model no smaller it stays as it was. Manifest and signature
// are the same bytes, so whoever trusted the bundle trusts this one. builds
// says that it needs base where it is unpacked.
func (b *Bundle) Thin(w io.Writer, base []byte) (builds bool, err error) {
	parts := map[string][]byte{}
	for name := range b.Manifest.Files {
		if parts[name], err = b.Packed(name); err != nil {
			return false, fmt.Errorf("bundle: %w", err)
		}
	}
	name := b.Manifest.Model
	tflite, err := b.Part(name, nil)
	if err != nil {
		return false, fmt.Errorf("bundle: %w", err)
	}
	packed, err := pack.Pack(tflite, base)
	if err != nil {
		return false, fmt.Errorf("bundle: %s: %w", name, err)
	}
	if len(packed) < len(parts[name]) {
		h, err := pack.ReadHeader(packed)
		if err != nil {
			return false, fmt.Errorf("bundle: %s: %w", name, err)
		}
		parts[name], builds = packed, h.Base != nil
	}
	return builds, writeZip(w, b.Manifest, b.Text, b.signature, parts)
}

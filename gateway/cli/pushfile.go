package cli

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"edgegateway/infer/model/pack"
	"edgegateway/infer/store"
	"edgegateway/internal/offer"
)

// parcel is a file as it lies at the broker.
type parcel struct {
	offer.File
	data []byte
}

func pushID() string {
	b := make([]byte, 8)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// parcels makes what is sent of a file: with a base what changed since, and the
// whole, packed where that is smaller.
func (w *pusher) parcels(path string, sizes []int) (*offer.Offer, []parcel, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, invalid(err)
	}
	var base []byte
	if w.base != "" {
		if base, err = modelOf(w.base); err != nil {
			return nil, nil, err
		}
	}
	done := waiting("packing " + filepath.Base(path))
	defer done()
	o := &offer.Offer{Name: w.name, Version: w.version}
	var thin func(base []byte) ([]byte, bool, error)
	if isBundle(data) {
		b, err := store.ReadBundle(bytes.NewReader(data), int64(len(data)), store.Bounds{})
		if err != nil {
			return nil, nil, invalid(fmt.Errorf("%s: %w", path, err))
		}
		m := &b.Manifest
		if o.Name != "" && o.Name != m.Name || o.Version != "" && o.Version != m.Version {
			return nil, nil, &exitError{exitUsage, fmt.Errorf("%s is %s@%s; a bundle is pushed under its own name and version", path, m.Name, m.Version)}
		}
		o.Name, o.Version, o.Model = m.Name, m.Version, m.Files[m.Model].SHA256
		packed, err := b.Packed(m.Model)
		if err != nil {
			return nil, nil, invalid(fmt.Errorf("%s: %w", path, err))
		}
		if h, err := pack.ReadHeader(packed); err == nil && h.Base != nil { // it was made thin before
			return o, []parcel{w.parcel(data, hex.EncodeToString(h.Base[:]), sizes)}, nil
		}
		thin = func(base []byte) ([]byte, bool, error) {
			var out bytes.Buffer
			builds, err := b.Thin(&out, base)
			return out.Bytes(), builds, err
		}
	} else {
		tflite, _, err := readModel(path)
		if err != nil {
			return nil, nil, err
		}
		if o.Name == "" {
			o.Name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		}
		data, o.Model = tflite, hexSum(tflite)
		thin = func(base []byte) ([]byte, bool, error) {
			packed, err := pack.Pack(tflite, base)
			return packed, base != nil, err
		}
	}
	if err := store.CheckName(o.Name); err != nil {
		return nil, nil, &exitError{exitUsage, fmt.Errorf("%w; --name gives another", err)}
	}
	if o.Version != "" {
		if err := store.CheckVersion(o.Version); err != nil {
			return nil, nil, &exitError{exitUsage, err}
		}
	}
	var list []parcel
	whole, _, err := thin(nil)
	if err != nil {
		return nil, nil, invalid(fmt.Errorf("%s: %w", path, err))
	}
	if len(whole) >= len(data) {
		whole = data
	}
	if base != nil {
		delta, builds, err := thin(base)
		if err != nil {
			return nil, nil, invalid(fmt.Errorf("%s: %w", path, err))
		}
		if builds && len(delta) < len(whole) { // else the whole is the better way
			list = append(list, w.parcel(delta, hexSum(base), sizes))
		}
	}
	return o, append(list, w.parcel(whole, "", sizes)), nil
}

func isBundle(data []byte) bool { return bytes.HasPrefix(data, []byte("PK\x03\x04")) }

// modelOf is the .tflite of a model's file or of a bundle.
func modelOf(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, invalid(err)
	}
	if !isBundle(data) {
		tflite, _, err := readModel(path)
		return tflite, err
	}
	b, err := store.ReadBundle(bytes.NewReader(data), int64(len(data)), store.Bounds{})
	if err == nil {
		data, err = b.Part(b.Manifest.Model, nil)
	}
	if err != nil {
		return nil, invalid(fmt.Errorf("%s: %w", path, err))
	}
	return data, nil
}

// parcel cuts data into chunks of those sizes that are of use: the larger ones
// are where there is more than one of the next.
func (w *pusher) parcel(data []byte, base string, sizes []int) parcel {
	sum := hexSum(data)
	for len(sizes) > 1 && len(data) <= sizes[1] {
		sizes = sizes[1:]
	}
	return parcel{offer.File{SHA256: sum, Bytes: int64(len(data)), Base: base, Topic: w.at + "/" + sum, Chunks: sizes}, data}
}

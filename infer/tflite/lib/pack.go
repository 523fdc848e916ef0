//go:build ignore

// Command pack compresses the TensorFlow Lite library of each platform for embedding:
//
//	go run ./infer/tflite/lib/pack.go CACHE infer/tflite/lib
//
// CACHE is the folder that holds the unpacked npm package tfjs-tflite-node. Its
// libexternal_delegate_obj is left out: what it does, to open a delegate's own
// library and call tflite_plugin_create_delegate, this package does itself.
// Beside each NAME.zst lies NAME.sha256, the hash of the uncompressed content;
// a library whose hash is there already is not compressed again.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pack CACHE FOLDER")
		os.Exit(2)
	}
	if err := packAll(filepath.Join(os.Args[1], "tfjs-tflite-node", "cc_deps"), os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// packAll packs the library of every platform.
func packAll(from, to string) error {
	for platform, ending := range map[string]string{"linux_amd64": ".so", "linux_arm64": ".so", "darwin_arm64": ".dylib"} {
		name := "libtensorflowlite_c" + ending
		if err := pack(filepath.Join(from, platform, name), filepath.Join(to, platform, name)); err != nil {
			return err
		}
	}
	return nil
}

// pack writes to.zst and to.sha256 of the file from. The hash is written last:
// where it is right, the compressed file is whole.
func pack(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	want := hex.EncodeToString(sum[:]) + "\n"
	if have, err := os.ReadFile(to + ".sha256"); err == nil && string(have) == want {
		if _, err := os.Stat(to + ".zst"); err == nil {
			return nil
		}
	}
	if err := os.Remove(to + ".sha256"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// A window of 1 MB bounds what the program needs to unpack it.
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(1<<20))
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+".zst", w.EncodeAll(data, nil), 0o644); err != nil {
		return err
	}
	return os.WriteFile(to+".sha256", []byte(want), 0o644)
}

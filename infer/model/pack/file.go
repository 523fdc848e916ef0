package pack

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Ext is how files of packed models are named.
const Ext = ".pack"

// deepest is how many versions may build on one another.
const deepest = 16

// ReadFile gives the .tflite bytes of a model file, packed or not: whoever takes
// a .tflite file reads it by this. What is no packed model is given as it
// stands. The older version that a packed one builds on is looked for among the
// model files beside it, by its SHA-256, whatever its name.
func ReadFile(path string) ([]byte, error) { return readFile(path, deepest) }

func readFile(path string, deep int) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil || !Is(data) {
		return data, err
	}
	out, err := Unpack(data, beside(path, deep-1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return out, nil
}

// Beside gives what Unpack asks for a base: it looks among the model files in
// the folder of the packed file, itself packed or not.
func Beside(path string) func(sum [32]byte) ([]byte, error) { return beside(path, deepest) }

func beside(path string, deep int) func(sum [32]byte) ([]byte, error) {
	return func(sum [32]byte) ([]byte, error) { return find(path, sum, deep) }
}

func find(path string, sum [32]byte, deep int) ([]byte, error) {
	if deep < 1 {
		return nil, fmt.Errorf("%w: more than %d versions build on one another", ErrFormat, deepest)
	}
	dir := filepath.Dir(path)
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var damaged error
	for _, e := range list {
		name := filepath.Join(dir, e.Name())
		if has, err := holds(name, sum); err != nil || !has {
			continue
		}
		data, err := readFile(name, deep)
		if err == nil && sha256.Sum256(data) == sum {
			return data, nil
		}
		damaged = errors.Join(damaged, err)
	}
	if damaged != nil {
		return nil, fmt.Errorf("%w: it has SHA-256 %x: %w", ErrNoBase, sum, damaged)
	}
	return nil, fmt.Errorf("%w: no .tflite or %s file in %s has SHA-256 %x", ErrNoBase, Ext, dir, sum)
}

// holds says whether a file may be the model with that SHA-256: a packed one
// says so in its header, of a .tflite the sum is taken without keeping it.
func holds(name string, sum [32]byte) (bool, error) {
	switch filepath.Ext(name) {
	case ".tflite", Ext:
	default:
		return false, errors.New("no model")
	}
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if s, err := f.Stat(); err != nil || !s.Mode().IsRegular() {
		return false, errors.New("no file")
	}
	head := make([]byte, contentAt+32)
	n, err := io.ReadFull(f, head)
	if err == nil && Is(head) {
		return [32]byte(head[contentAt:]) == sum, nil
	}
	h := sha256.New()
	h.Write(head[:n])
	if _, err := io.Copy(h, f); err != nil {
		return false, err
	}
	return [32]byte(h.Sum(nil)) == sum, nil
}

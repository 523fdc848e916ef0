package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"edgegateway/infer/model/pack"
)

// Files are the files of a version, by absolute path; "" where it has none.
// They must not be written to.
type Files struct {
	Model, Accelerated, Labels, Reference string
	Golden                                []GoldenFiles
	Manifest                              Manifest
}

// GoldenFiles is a golden input with its files by absolute path.
type GoldenFiles Golden

// Files gives a version's files, each held against its hash; version "" is the
// live one.
func (s *Store) Files(name, version string) (Files, error) {
	st, err := s.State()
	if err != nil {
		return Files{}, err
	}
	if m := st.Models[name]; version == "" && m != nil {
		if version = m.Live; version == "" {
			return Files{}, fmt.Errorf("store: model %s: %w: no version of it is live", name, ErrUnknown)
		}
	}
	_, v, err := st.version(name, version)
	if err != nil {
		return Files{}, wrap(err)
	}
	f, err := s.filesOf(v)
	if err != nil {
		return Files{}, fmt.Errorf("store: model %s@%s: %w", name, version, err)
	}
	return f, nil
}

func (s *Store) filesOf(v *Version) (Files, error) {
	man, _, err := s.manifest(v)
	if err != nil {
		return Files{}, err
	}
	paths := map[string]string{"": ""}
	for name, p := range man.Files {
		if _, err := s.content(p.SHA256, p.Bytes); err != nil {
			return Files{}, fmt.Errorf("file %s: %w", name, err)
		}
		paths[name] = s.path("files", p.SHA256)
	}
	at := func(names []string) (list []string) {
		for _, n := range names {
			list = append(list, paths[n])
		}
		return list
	}
	f := Files{Model: paths[man.Model], Accelerated: paths[man.Accelerated], Labels: paths[man.Labels], Reference: paths[man.Reference], Manifest: man}
	for _, g := range man.Golden {
		f.Golden = append(f.Golden, GoldenFiles{at(g.Inputs), at(g.Outputs), g.Tolerance})
	}
	return f, nil
}

// manifest reads the manifest of a version.
func (s *Store) manifest(v *Version) (Manifest, []byte, error) {
	text, err := s.content(v.Manifest, maxManifest)
	if err != nil {
		return Manifest{}, nil, fmt.Errorf("manifest: %w", err)
	}
	m, err := ParseManifest(text)
	return m, text, err
}

// content reads a file by its hash, of at most so many bytes.
func (s *Store) content(sum string, most int64) ([]byte, error) {
	data, err := readBounded(s.path("files", sum), most)
	if err != nil {
		return nil, err
	}
	if got := sumOf(data); got != sum {
		return nil, damaged("%s has the SHA-256 %s; add the version again", s.path("files", sum), got)
	}
	return data, nil
}

// Content gives the bytes of a file that some version has, by its SHA-256 in
// hex digits, checked. The error wraps fs.ErrNotExist where none has it.
func (s *Store) Content(sum string) ([]byte, error) {
	if !isSum(sum) {
		return nil, fmt.Errorf("store: %q is no SHA-256", sum)
	}
	data, err := s.content(sum, defaultBounds().Part)
	return data, wrap(err)
}

// BuildOn names model files, in place of those named before, that packed models
// may build on beside those of the versions: what the configuration names.
func (s *Store) BuildOn(files []string) { s.bases.Store(&files) }

// base gives what a packed model builds on, from the files of other versions, or
// from those that BuildOn named.
func (s *Store) base(sum [32]byte) ([]byte, error) {
	data, err := s.Content(fmt.Sprintf("%x", sum))
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if files := s.bases.Load(); files != nil {
		for _, file := range *files {
			if data, err := pack.ReadFile(file); err == nil && sha256.Sum256(data) == sum {
				return data, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: no version here has the model with SHA-256 %x, nor is it one of the configuration's own files; add that one first", pack.ErrNoBase, sum)
}

// readBounded reads a file of at most so many bytes.
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

package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
)

// intake is a version on its way in.
type intake struct {
	manifest  Manifest
	text      []byte // of the manifest; of a plain model it is written when the version is known
	signature []byte
	signed    string // the trusted key that did
	part      func(name string) ([]byte, error)
	plain     bool   // a model without a bundle
	asked     string // of a plain model: the version that it shall have; "": the next
	from      string
}

// Add takes a version from a file: a bundle, or a model, packed or not, which
// counts as unsigned. What the file is its content says. name is that of the
// model, or NAME@VERSION; "" takes what a bundle says, or the name of the file.
// A model without a version gets the next whole number; with from
// FromConfiguration it is 0, then 0.1, and whether it is signed does not count.
// from says where it came from.
//
// A version that is there already with the same content is given as it is, its
// files written again. Where there is no room for it, older versions go; see
// Config. Errors wrap one of those of this package, or fs.ErrNotExist; they do not
// name the file.
func (s *Store) Add(ctx context.Context, name, path, from string) (Version, error) {
	v, err := s.add(ctx, &intake{from: from}, name, path)
	return v, err
}

// AddNamed is Add, and gives the model's name too; errors name the file.
func (s *Store) AddNamed(ctx context.Context, name, path, from string) (string, Version, error) {
	in := &intake{from: from}
	v, err := s.add(ctx, in, name, path)
	if err != nil {
		return "", Version{}, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return in.manifest.Name, v, nil
}

func (s *Store) add(ctx context.Context, in *intake, name, path string) (Version, error) {
	f, err := os.Open(path)
	if err != nil {
		return Version{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Version{}, err
	}
	if !info.Mode().IsRegular() {
		return Version{}, damaged("it is no file")
	}
	version := ""
	if name != "" {
		if name, version, err = ParseRef(name); err != nil {
			return Version{}, err
		}
	}
	var magic [4]byte
	_, _ = f.ReadAt(magic[:], 0) // a file of less is refused as a model
	if string(magic[:]) == "PK\x03\x04" {
		err = s.fromBundle(in, f, info.Size(), name, version)
	} else {
		err = s.fromModel(in, f, path, name, version)
	}
	if err != nil {
		return Version{}, err
	}
	v, err := s.bring(ctx, in)
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%w; model rm of a version that is not needed makes room", err)
	}
	return v, err
}

// fromBundle prepares a bundle; name and version are those that it must have,
// where they are not "".
func (s *Store) fromBundle(in *intake, f *os.File, size int64, name, version string) error {
	b, err := ReadBundle(f, size, Bounds{})
	if err != nil {
		return err
	}
	m := b.Manifest
	if name != "" && name != m.Name || version != "" && version != m.Version {
		return fmt.Errorf("it is %s@%s, and not %s", m.Name, m.Version, strings.TrimSuffix(name+"@"+version, "@"))
	}
	if ofConfiguration(m.Version) || in.from == FromConfiguration {
		return fmt.Errorf("version %s: those that begin with 0 are for the model files that the configuration names", m.Version)
	}
	terms := s.terms.Load()
	switch err := b.Verify(terms.keys); {
	case err == nil:
		in.signed = b.KeyID
	case terms.RequireSigned, !errors.Is(err, ErrUnsigned) && len(terms.keys) > 0:
		return untrusted(err)
	}
	in.manifest, in.text, in.signature = m, b.Text, b.signature
	in.part = func(part string) ([]byte, error) { return b.Part(part, s.base) }
	return nil
}

// untrusted says what to do about a bundle that is not signed as is asked for.
func untrusted(err error) error {
	switch {
	case errors.Is(err, ErrUnsigned):
		return fmt.Errorf("%w, and require_signed is set; model sign signs it", err)
	case errors.Is(err, ErrWrongKey):
		return fmt.Errorf("%w; store.keys names those that are: add this one there, or have it signed with one of them", err)
	case errors.Is(err, ErrSignature):
		return fmt.Errorf("%w; it was changed since, get it anew or sign it anew", err)
	}
	return err
}

// fromModel makes a manifest for a model without a bundle.
func (s *Store) fromModel(in *intake, f *os.File, path, name, version string) error {
	if s.terms.Load().RequireSigned && in.from != FromConfiguration {
		return fmt.Errorf("%w: it is a model without a bundle, and require_signed is set; model bundle --key makes a signed one", ErrUnsigned)
	}
	most := defaultBounds().Part
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return err
	}
	if int64(len(data)) > most {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, most)
	}
	if pack.Is(data) {
		h, err := pack.ReadHeader(data)
		if err != nil {
			return damaged("%v", err)
		}
		if int64(h.Size) > most {
			return fmt.Errorf("%w: it unpacks to %d bytes, more than %d", ErrTooLarge, h.Size, most)
		}
		beside := pack.Beside(path)
		data, err = pack.Unpack(data, func(sum [32]byte) ([]byte, error) {
			if base, err := s.base(sum); err == nil {
				return base, nil
			}
			return beside(sum)
		})
		if err != nil {
			return damaged("%v", err)
		}
	}
	if name == "" {
		base := filepath.Base(path)
		if name, version, err = ParseRef(strings.TrimSuffix(base, filepath.Ext(base))); err != nil {
			return fmt.Errorf("%w; give the model a name", err)
		}
	}
	if version != "" && ofConfiguration(version) != (in.from == FromConfiguration) {
		return fmt.Errorf("version %s: those that begin with 0 are for the model files that the configuration names", version)
	}
	const file = "model.tflite"
	in.manifest = Manifest{
		Format: Format, Name: name, Model: file, Files: map[string]Part{file: PartOf(data)},
	}
	if m, err := model.Read(data); err == nil { // else it is refused below
		about := m.About()
		in.manifest.Licence, in.manifest.Provenance = about.Licence, about.String()
	}
	in.plain, in.asked = true, version
	in.part = func(string) ([]byte, error) { return data, nil }
	return nil
}

// bring writes the files of a version beside those that are there, then takes
// it in.
func (s *Store) bring(ctx context.Context, in *intake) (Version, error) {
	m := &in.manifest
	err := s.locked(func() error { // before the work: what is refused anyhow
		st, err := s.load()
		if err == nil {
			_, err = s.place(st.clone(), in)
		}
		return err
	})
	if err != nil {
		return Version{}, err
	}
	dir, release, err := s.incoming()
	if err != nil {
		return Version{}, err
	}
	defer release()
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		if ctx.Err() != nil {
			return Version{}, ctx.Err()
		}
		data, err := in.part(name)
		if err == nil {
			err = m.checkPart(name, data)
		}
		if err != nil {
			return Version{}, err
		}
		if err := s.put(dir, data); err != nil {
			return Version{}, err
		}
	}
	if in.signature != nil {
		if err := s.put(dir, in.signature); err != nil {
			return Version{}, err
		}
	}
	var v Version
	err = s.locked(func() error {
		was, err := s.load()
		if err != nil {
			return err
		}
		if err = s.apply(func(st *State) error {
			v, err = s.take(st, in, dir)
			return err
		}); err == nil {
			s.noteEvicted(was)
			err = s.sweep()
		}
		return err
	})
	return v, err
}

// put writes a file named by its content into dir; golden inputs and outputs
// may be the same.
func (s *Store) put(dir string, data []byte) error {
	path := filepath.Join(dir, sumOf(data))
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return s.disk.create(path, data)
}

// checkPart looks into the files that this program understands.
func (m *Manifest) checkPart(name string, data []byte) error {
	switch name {
	case m.Model:
		f, err := model.Read(data)
		if err == nil {
			_, _, _, err = f.Adapted(data)
		}
		if err != nil {
			return damaged("model: %v", err)
		}
	case m.Accelerated:
		f, err := model.Read(data)
		if err == nil {
			err = f.CheckAccelerated()
		}
		if err != nil {
			return damaged("accelerated model: %v", err)
		}
	case m.Labels:
		if _, err := model.ParseLabels(data); err != nil {
			return damaged("labels: %v", err)
		}
	}
	return nil
}

// place finds where a version goes: the one that is there already, or the one
// that it will be, which is not in st yet. Whoever has to go for it leaves st.
func (s *Store) place(st State, in *intake) (Version, error) {
	m := &in.manifest
	have := st.Models[m.Name]
	if have == nil {
		if len(st.Models) >= maxModels {
			return Version{}, fmt.Errorf("%w: %d models are the most it holds", ErrFull, maxModels)
		}
		have = &ModelState{}
	}
	configured := in.from == FromConfiguration
	if in.plain {
		m.Version = in.asked
	}
	if m.Version == "" {
		for _, v := range have.Versions {
			if v.Model == m.Files[m.Model].SHA256 && v.Bytes == m.Bytes() && v.Signature == "" && (v.From == FromConfiguration) == configured {
				m.Version = v.Version
				return v, nil
			}
		}
		m.Version = next(have.Versions, configured)
	}
	if have.Minimum != "" && !configured && CompareVersions(m.Version, have.Minimum) < 0 {
		return Version{}, fmt.Errorf("%w: version %s, and none below %s is taken", ErrOld, m.Version, have.Minimum)
	}
	if v := have.Find(m.Version); v != nil {
		same := v.Manifest == sumOf(in.text)
		if in.plain {
			same = v.Model == m.Files[m.Model].SHA256 && v.Bytes == m.Bytes()
		}
		if !same {
			return Version{}, fmt.Errorf("version %s is %w; a new model needs a new version", m.Version, ErrTaken)
		}
		return *v, nil
	}
	v := Version{
		Version: m.Version, Model: m.Files[m.Model].SHA256, Bytes: m.Bytes(), Signed: in.signed,
		Added: time.Now().UTC(), From: in.from, Stage: Added,
	}
	return v, s.makeRoom(st, m.Name, v)
}

// take moves the files of a version to the others and puts it into st.
func (s *Store) take(st *State, in *intake, dir string) (Version, error) {
	m := &in.manifest
	v, err := s.place(*st, in)
	if err != nil {
		return Version{}, err
	}
	if in.plain {
		if in.text, err = m.Encode(); err != nil {
			return Version{}, err
		}
	}
	if err := s.put(dir, in.text); err != nil {
		return Version{}, err
	}
	v.Manifest = sumOf(in.text)
	if in.signature != nil && (v.Signed == "" || in.signed != "") {
		v.Signature, v.Signed = sumOf(in.signature), in.signed
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Version{}, err
	}
	for _, e := range entries {
		if isSum(e.Name()) {
			if err := s.disk.rename(filepath.Join(dir, e.Name()), s.path("files", e.Name())); err != nil {
				return Version{}, err
			}
		}
	}
	if err := s.disk.syncDir(s.path("files")); err != nil {
		return Version{}, err
	}
	if st.Models[m.Name] == nil {
		st.Models[m.Name] = &ModelState{}
	}
	have := st.Models[m.Name]
	if old := have.Find(v.Version); old != nil {
		*old = v
		return v, nil
	}
	have.Versions = append(have.Versions, v)
	slices.SortStableFunc(have.Versions, func(a, b Version) int { return CompareVersions(a.Version, b.Version) })
	return v, nil
}

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Kinds of files that tell of a state which was lost: it was damaged and is kept
// here, or was not there while files of versions were.
const (
	asDamaged = "damaged"
	asGone    = "gone"
)

// errGone is ErrDamaged: what was live nobody knows.
var errGone = fmt.Errorf("%w: it is gone, and files of versions are there", ErrDamaged)

// OpenAnew is Open for a gateway, which goes on whatever happened to the disk: a
// state file that is damaged is kept aside, and where it is damaged or gone the
// versions whose files are whole are there again, as added; what was live, wanted
// or the minimum, nobody knows any more. See Aside.
func OpenAnew(dir string, cfg Config) (*Store, error) { return openOn(disk{}, dir, cfg, true) }

// Aside are the paths of state files that were damaged, and of those that stand
// for one that was gone, each kind in its order. As long as one lies there, no
// file of a version is removed: it may be needed to find out what was there.
func (s *Store) Aside() []string {
	list, _ := filepath.Glob(s.path("state." + asDamaged + "-*.json")) // the patterns are right
	gone, _ := filepath.Glob(s.path("state." + asGone + "-*.json"))
	return append(list, gone...)
}

// mostAside bounds how often that may happen.
const mostAside = 9

// beginAnew keeps a damaged state aside, or notes that it was gone, and writes one of the versions whose
// files are there in its place: who is killed between begins with it again. The
// caller has the lock.
func (s *Store) beginAnew() error {
	st := State{Models: map[string]*ModelState{}}
	if err := s.find(&st); err != nil {
		return err
	}
	text, err := st.encode()
	if err != nil {
		return err
	}
	kind := asDamaged
	if _, err := os.Lstat(s.path("state.json")); errors.Is(err, fs.ErrNotExist) {
		kind = asGone
	}
	aside := ""
	for n := 1; n <= mostAside; n++ {
		aside = s.path(fmt.Sprintf("state.%s-%d.json", kind, n))
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err := s.disk.remove(aside); err != nil { // the last place is used again and again
		return err
	}
	if kind == asGone {
		err = s.disk.create(aside, []byte(`"state.json was not here, and files of versions were"`+"\n"))
	} else if err = os.Link(s.path("state.json"), aside); err != nil { // some file systems know no links
		err = s.disk.rename(s.path("state.json"), aside)
	}
	if err != nil {
		return err
	}
	return s.disk.replace(s.path("state.json"), text)
}

// find puts into st each version of which all files are there, as its manifest
// says. A signature is found again where one of the keys made it.
func (s *Store) find(st *State) error {
	entries, err := os.ReadDir(s.path("files"))
	if err != nil {
		return err
	}
	var signatures []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !isSum(e.Name()) || info.Size() > maxManifest {
			continue
		}
		text, err := s.content(e.Name(), maxManifest)
		if err != nil {
			continue // damaged too
		}
		if _, _, err := parseSignature(text); err == nil {
			signatures = append(signatures, e.Name())
			continue
		}
		m, err := ParseManifest(text)
		if err != nil {
			continue // some other file
		}
		v := Version{
			Version: m.Version, Model: m.Files[m.Model].SHA256, Manifest: e.Name(), Bytes: m.Bytes(), Added: info.ModTime().UTC(),
			Stage: Added, Why: "found again: the state file was damaged or gone",
		}
		if ofConfiguration(m.Version) {
			v.From = FromConfiguration
		}
		if _, err := s.filesOf(&v); err != nil {
			continue
		}
		have := st.Models[m.Name]
		if have == nil {
			have = &ModelState{}
			st.Models[m.Name] = have
		}
		if have.Find(m.Version) == nil {
			have.Versions = append(have.Versions, v)
		}
	}
	for _, m := range st.Models {
		for i := range m.Versions {
			s.findSignature(&m.Versions[i], signatures)
		}
		slices.SortFunc(m.Versions, func(a, b Version) int { return CompareVersions(a.Version, b.Version) })
	}
	return nil
}

// findSignature gives a version the signature that is right for it, if any.
func (s *Store) findSignature(v *Version, signatures []string) {
	_, text, err := s.manifest(v)
	if err != nil {
		return
	}
	for _, name := range signatures {
		sig, err := s.content(name, maxSignature)
		if err != nil || verify(text, sig, s.terms.Load().keys) != nil {
			continue
		}
		if _, key, err := parseSignature(sig); err == nil {
			v.Signature, v.Signed = name, key
			return
		}
	}
}

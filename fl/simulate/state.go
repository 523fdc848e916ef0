package simulate

import (
	"hash/maphash"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// shelf keeps the files of coordinator and participants. What several keep
// alike, as the weights of a round, is there once, and what is large lies on
// disk: the memory it takes does not grow with the updates of a round. It is for
// one goroutine, and nothing of it outlives the simulation.
type shelf struct {
	dir   string // of what is large
	made  int    // files there
	seeds [2]maphash.Seed
	by    map[sum]*content
}

// sum tells contents apart: two hashes of 64 bits by seeds that nobody knows.
type sum [2]uint64

type content struct {
	data []byte // nil: in the file of this name
	file string
	held int
}

// large is from where on a file lies on disk.
const large = 32 << 10

func newShelf(dir string) *shelf {
	return &shelf{dir, 0, [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, map[sum]*content{}}
}

// state gives somebody a part of the shelf, as fl.State.
func (s *shelf) state() *state { return &state{s, map[string]sum{}, nil} }

type state struct {
	shelf *shelf
	files map[string]sum
	names []string // sorted
}

// Put implements fl.State.
func (s *state) Put(name string, data []byte) error {
	hash := sum{maphash.Bytes(s.shelf.seeds[0], data), maphash.Bytes(s.shelf.seeds[1], data)}
	c := s.shelf.by[hash]
	if c == nil {
		c = &content{}
		if len(data) < large {
			c.data = append([]byte{}, data...)
		} else {
			s.shelf.made++
			c.file = filepath.Join(s.shelf.dir, strconv.Itoa(s.shelf.made))
			if err := os.WriteFile(c.file, data, 0o600); err != nil {
				return err
			}
		}
		s.shelf.by[hash] = c
	}
	c.held++
	if err := s.Delete(name); err != nil {
		return err
	}
	s.files[name] = hash
	at, _ := slices.BinarySearch(s.names, name)
	s.names = slices.Insert(s.names, at, name)
	return nil
}

// Loose implements fl.State.
func (s *state) Loose(name string, data []byte) error { return s.Put(name, data) }

// Get implements fl.State.
func (s *state) Get(name string) ([]byte, error) {
	hash, ok := s.files[name]
	if !ok {
		return nil, nil
	}
	if c := s.shelf.by[hash]; c.file == "" {
		return slices.Clone(c.data), nil
	} else {
		return os.ReadFile(c.file)
	}
}

// Delete implements fl.State.
func (s *state) Delete(name string) error {
	hash, ok := s.files[name]
	if !ok {
		return nil
	}
	delete(s.files, name)
	at, _ := slices.BinarySearch(s.names, name)
	s.names = slices.Delete(s.names, at, at+1)
	c := s.shelf.by[hash]
	if c.held--; c.held > 0 {
		return nil
	}
	delete(s.shelf.by, hash)
	if c.file == "" {
		return nil
	}
	return os.Remove(c.file)
}

// List implements fl.State.
func (s *state) List(prefix string) ([]string, error) {
	from, _ := slices.BinarySearch(s.names, prefix)
	to := from
	for to < len(s.names) && strings.HasPrefix(s.names[to], prefix) {
		to++
	}
	return slices.Clone(s.names[from:to]), nil
}

package store

import (
	"maps"
	"slices"
)

// maxLeft is how many versions are remembered that made room, where nobody asks.
const maxLeft = 1000

// noteEvicted remembers which versions of was made room for another one. The
// caller has the lock.
func (s *Store) noteEvicted(was State) {
	st, err := s.load()
	if err != nil {
		return // the next look says it
	}
	for _, name := range slices.Sorted(maps.Keys(was.Models)) {
		for _, v := range was.Models[name].Versions {
			if st.Models[name].Find(v.Version) == nil && len(s.left) < maxLeft {
				s.left = append(s.left, name+"@"+v.Version)
			}
		}
	}
}

// Evicted are the versions, NAME@VERSION each, that made room for others which
// this Store took since it was asked before.
func (s *Store) Evicted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.left
	s.left = nil
	return left
}

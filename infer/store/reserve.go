package store

import "os"

// reserve is a file that is given up where the disk has no room for the state:
// else nothing could be removed from a disk that is full, nor taken back.
const (
	reserve      = "reserve"
	reserveBytes = 256 << 10
)

// keepReserve makes the reserve where it is not there, or not whole, and the
// disk has room. The caller has the lock.
func (s *Store) keepReserve() {
	path := s.path(reserve)
	if info, err := os.Stat(path); err == nil && info.Size() == reserveBytes {
		return
	}
	if s.disk.remove(path) != nil { // of one that was killed while it wrote
		return
	}
	if err := s.disk.create(path, make([]byte, reserveBytes)); err != nil {
		_ = os.Remove(path)
	}
}

package tflite

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// places are where the library of the program is opened from, the best first.
var places = []place{inMemory, inCache}

// inMemory writes the library into memory that has a file descriptor, so that
// nothing lies on the disk. The descriptor stays open: with its number used
// again the loader would hand out the first library in place of the second.
func inMemory(p *packedLibrary) (string, error) {
	fd, err := unix.MemfdCreate(p.name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3 all of them may be run
		fd, err = unix.MemfdCreate(p.name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return "", fmt.Errorf("memory for %s: %w", p.name, err)
	}
	if err := p.writeTo(fdWriter(fd)); err != nil {
		unix.Close(fd)
		return "", fmt.Errorf("unpack %s: %w", p.name, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), nil
}

// fdWriter writes to a file descriptor that no finalizer closes.
type fdWriter int

func (w fdWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		m, err := unix.Write(int(w), p[n:])
		if err != nil && err != unix.EINTR {
			return n, err
		}
		n += max(m, 0)
	}
	return len(p), nil
}

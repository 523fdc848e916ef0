package tflite

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// place writes the library into memory that has a file descriptor; where the
// kernel refuses that, into a folder. The descriptor stays open: the loader knows
// a library by its path, and with the number used again it would hand out the
// first library in place of the second.
func place(name string, write func(io.Writer) error) (string, func(), error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return placeInCache(name, write)
	}
	if err := write(fdWriter(fd)); err != nil {
		unix.Close(fd)
		return "", nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), func() {}, nil
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

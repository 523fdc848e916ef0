package tflite

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"
)

// packedLibrary is a library in the program.
type packedLibrary struct {
	files  fs.FS
	packed string // the file in it, compressed by zstd
	name   string // the library's own, such as libtensorflowlite_c.so
	sum    string // SHA-256 of its content, in hex
}

// place puts a library where the loader can open it and says where. It stays
// there: the loader knows a library by its path.
type place func(*packedLibrary) (path string, err error)

// openPacked opens the library whose name in the program's files begins with
// name, from the first of the places that does.
func openPacked(files fs.FS, name string, from []place) (*Library, error) {
	p, err := findPacked(files, name)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, put := range from {
		at, err := put(p)
		if err == nil {
			var l *Library
			if l, err = open(at); err == nil {
				return l, nil
			}
		}
		if errors.Is(err, ErrMachine) || errors.Is(err, errDamaged) {
			return nil, err // elsewhere it would be no better
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("the TensorFlow Lite library in the program cannot be opened; infer.library can name another: %w", errors.Join(errs...))
}

// findPacked gives a library of the program, ErrNoLibrary where it holds none.
func findPacked(files fs.FS, name string) (*packedLibrary, error) {
	name += ".so"
	if runtime.GOOS == "darwin" {
		name = strings.TrimSuffix(name, ".so") + ".dylib"
	}
	p := &packedLibrary{files: files, packed: name + ".zst", name: path.Base(name)}
	sum, err := fs.ReadFile(files, name+".sha256")
	if err == nil {
		p.sum = strings.TrimSpace(string(sum))
		_, err = fs.Stat(files, p.packed)
	}
	if err != nil {
		return nil, ErrNoLibrary
	}
	return p, nil
}

var errDamaged = errors.New("the TensorFlow Lite library in the program is damaged: build it again with `make build`")

// writeTo unpacks the library. Where the content is not what was packed, it
// is an error, and what was written must not be opened.
func (p *packedLibrary) writeTo(w io.Writer) error {
	f, err := p.files.Open(p.packed)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer z.Close()
	hash, failed := sha256.New(), &writeError{w: w}
	if _, err := io.Copy(io.MultiWriter(hash, failed), z); failed.err != nil {
		return failed.err
	} else if err != nil {
		return fmt.Errorf("%w (%w)", errDamaged, err)
	}
	if hex.EncodeToString(hash.Sum(nil)) != p.sum {
		return fmt.Errorf("%w (its SHA-256 is another)", errDamaged)
	}
	return nil
}

// writeError tells a full disk from damaged content.
type writeError struct {
	w   io.Writer
	err error
}

func (w *writeError) Write(b []byte) (n int, err error) {
	n, w.err = w.w.Write(b)
	return n, w.err
}

// inCache keeps the library in the cache folder, $EDGEGATEWAY_CACHE or the
// user's, in a folder that only this user can read. What lies there is used
// again when its hash is right.
func inCache(p *packedLibrary) (string, error) {
	dir, err := cacheFolder()
	if err != nil {
		return "", err
	}
	at := filepath.Join(dir, p.sum[:min(16, len(p.sum))]+"-"+p.name)
	if p.isAt(at) {
		return at, nil
	}
	f, err := os.CreateTemp(dir, p.name+".*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	err = errors.Join(p.writeTo(f), f.Chmod(0o500), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), at)
	}
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", p.name, err)
	}
	return at, nil
}

// isAt says whether the file is the library. The folder is this
// user's alone, so that nobody puts another there after the look.
func (p *packedLibrary) isAt(file string) bool {
	info, err := os.Lstat(file)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	return err == nil && hex.EncodeToString(hash.Sum(nil)) == p.sum
}

// cacheFolder makes the folder for unpacked libraries and refuses one that
// others could put something into.
func cacheFolder() (string, error) {
	base := os.Getenv("EDGEGATEWAY_CACHE")
	if base == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no cache folder for the TensorFlow Lite library: %w; name one in EDGEGATEWAY_CACHE", err)
		}
		base = filepath.Join(user, "edgegateway")
	}
	dir, err := filepath.Abs(filepath.Join(base, "lib"))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cache folder for the TensorFlow Lite library: %w; name another in EDGEGATEWAY_CACHE", err)
	}
	// With every link followed, so that the path which is looked at is the
	// one that is opened.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	if err := private(dir); err != nil {
		return "", fmt.Errorf("%w: the TensorFlow Lite library is not opened from there; name another folder in EDGEGATEWAY_CACHE", err)
	}
	return dir, nil
}

// private says why others could change what is opened below dir: it is not
// this user's, or open to others, or above it lies one where anybody may
// rename what is not his.
func private(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("the folder %s belongs to user %d", dir, s.Uid)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others can write to the folder %s (chmod 700 it)", dir)
	}
	for up := filepath.Dir(dir); ; up = filepath.Dir(up) {
		info, err := os.Stat(up)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
			return fmt.Errorf("anybody can write to %s, the folder above %s", up, dir)
		}
		if up == filepath.Dir(up) {
			return nil
		}
	}
}

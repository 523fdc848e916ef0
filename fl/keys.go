package fl

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"edgegateway/internal/keyfile"
)

// KeyMap is enrolled gateways by their names.
type KeyMap map[string]ed25519.PublicKey

// Key gives a gateway's key.
func (m KeyMap) Key(gateway string) (ed25519.PublicKey, bool) {
	k, ok := m[gateway]
	return k, ok
}

// KeyFolder is a folder with the public key of each enrolled gateway as NAME.pub.
// A gateway is enrolled, or sent away, by its file: that is looked at each time,
// and read where it is another one than before. It may be used by several
// goroutines.
type KeyFolder struct {
	dir   string
	mu    sync.Mutex
	known map[string]knownKey
}

// knownKey is a key that was read, with the file that it was in.
type knownKey struct {
	key  ed25519.PublicKey
	file fs.FileInfo
}

// settled is how old a file must have been when it was read for its time to tell
// that it is still the same: one that is written twice at once has one time.
const settled = 2 * time.Second

// KeyDir is the folder of that name.
func KeyDir(dir string) *KeyFolder { return &KeyFolder{dir: dir, known: map[string]knownKey{}} }

// Key gives a gateway's key; false also where its file cannot be read.
func (d *KeyFolder) Key(gateway string) (ed25519.PublicKey, bool) {
	if CheckName(gateway) != nil {
		return nil, false
	}
	path := filepath.Join(d.dir, gateway+".pub")
	file, err := os.Stat(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		delete(d.known, gateway)
		return nil, false
	}
	if k, ok := d.known[gateway]; ok && os.SameFile(k.file, file) && k.file.ModTime().Equal(file.ModTime()) && k.file.Size() == file.Size() {
		return k.key, true
	}
	delete(d.known, gateway)
	keys, err := keyfile.Read(path)
	if err != nil || len(keys) != 1 {
		return nil, false
	}
	if time.Since(file.ModTime()) > settled {
		d.known[gateway] = knownKey{keys[0].Public, file}
	}
	return keys[0].Public, true
}

// Names gives the enrolled gateways, sorted. The error names what in the folder
// is no key of one gateway.
func (d *KeyFolder) Names() ([]string, error) {
	files, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("enrolled: %w", err)
	}
	var names []string
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".pub")
		if !ok || f.IsDir() {
			continue
		}
		if err := CheckName(name); err != nil {
			return nil, fmt.Errorf("enrolled: %s: %w", f.Name(), err)
		}
		keys, err := keyfile.Read(filepath.Join(d.dir, f.Name()))
		if err == nil && len(keys) != 1 {
			err = fmt.Errorf("%s holds %d keys, a gateway has one", f.Name(), len(keys))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("enrolled: %w", err)
		}
		if err == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

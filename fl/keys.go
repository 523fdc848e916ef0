package fl

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"edgegateway/internal/keyfile"
)

// KeyMap is enrolled gateways by their names.
type KeyMap map[string]ed25519.PublicKey

// Key gives a gateway's key.
func (m KeyMap) Key(gateway string) (ed25519.PublicKey, bool) {
	k, ok := m[gateway]
	return k, ok
}

// KeyDir is a folder with the public key of each enrolled gateway as NAME.pub.
// It is read each time, so that a gateway is enrolled, or sent away, by a file.
type KeyDir string

// Key gives a gateway's key; false also where its file cannot be read.
func (d KeyDir) Key(gateway string) (ed25519.PublicKey, bool) {
	if CheckName(gateway) != nil {
		return nil, false
	}
	keys, err := keyfile.Read(filepath.Join(string(d), gateway+".pub"))
	if err != nil || len(keys) != 1 {
		return nil, false
	}
	return keys[0].Public, true
}

// Names gives the enrolled gateways, sorted. The error names what in the folder
// is no key of one gateway.
func (d KeyDir) Names() ([]string, error) {
	files, err := os.ReadDir(string(d))
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
		keys, err := keyfile.Read(filepath.Join(string(d), f.Name()))
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

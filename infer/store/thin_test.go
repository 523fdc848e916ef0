package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"edgegateway/infer/model/pack"
)

// TestThinAgain makes bundles thin that were signed whole: whoever trusts the one
// trusts the other, and the model comes back.
func TestThinAgain(t *testing.T) {
	key, pub := aKey(t)
	cfg := DefaultConfig()
	cfg.Keys, cfg.RequireSigned = []string{pub}, true
	m, parts := aBundle(t, "door", "2", 2)
	var whole bytes.Buffer
	do(t, WriteBundle(&whole, m, parts, key))
	b := read(t, whole.Bytes())
	for _, base := range [][]byte{nil, aModel(t, 1)} {
		s := open(t, t.TempDir(), cfg)
		var thin bytes.Buffer
		builds, err := b.Thin(&thin, base)
		do(t, err)
		if builds != (base != nil) || thin.Len() >= whole.Len() {
			t.Errorf("builds %v, %d bytes of %d", builds, thin.Len(), whole.Len())
		}
		path := write(t, "door-2"+Ext, thin.Bytes())
		_, err = s.Add(context.Background(), "", path, "")
		if base != nil {
			if !errors.Is(err, pack.ErrNoBase) {
				t.Errorf("without its base: %v", err)
			}
			m1, parts1 := aBundle(t, "door", "1", 1)
			_, err = s.Add(context.Background(), "", bundleFile(t, m1, parts1, key), "")
			do(t, err)
			_, err = s.Add(context.Background(), "", path, "")
		}
		do(t, err)
		f, err := s.Files("door", "2")
		do(t, err)
		if got, err := os.ReadFile(f.Model); err != nil || !bytes.Equal(got, parts["model.tflite"]) {
			t.Errorf("the model does not come back: %v", err)
		}
	}
}

package store

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// TestTrust says who is let in, by whose key signed the bundle and what the
// configuration asks for.
func TestTrust(t *testing.T) {
	mine, myPub := aKey(t)
	other, otherPub := aKey(t)
	for _, c := range []struct {
		name     string
		keys     []string
		required bool
		key      []byte // that signs
		err      error
		signed   bool
	}{
		{"unsigned, nobody asks", nil, false, nil, nil, false},
		{"signed, nobody can check", nil, false, mine, nil, false},
		{"unsigned, keys", []string{myPub}, false, nil, nil, false},
		{"signed by mine", []string{myPub}, false, mine, nil, true},
		{"signed by one of two", []string{otherPub, myPub}, true, mine, nil, true},
		{"signed by another", []string{myPub}, false, other, ErrWrongKey, false},
		{"signed by another, required", []string{myPub}, true, other, ErrWrongKey, false},
		{"unsigned, required", []string{myPub}, true, nil, ErrUnsigned, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Keys, cfg.RequireSigned = c.keys, c.required
			s := open(t, t.TempDir(), cfg)
			m, parts := aBundle(t, "door", "1", 1)
			v, err := s.Add(context.Background(), "", bundleFile(t, m, parts, c.key), "a test")
			if !errors.Is(err, c.err) || (v.Signed != "") != c.signed {
				t.Errorf("signed %q: %v", v.Signed, err)
			}
			if _, err := s.Add(context.Background(), "plain", write(t, "x.tflite", aModel(t, 1)), ""); errors.Is(err, ErrUnsigned) != c.required {
				t.Errorf("a model without a bundle: %v", err)
			}
		})
	}
}

// TestRequiredLater turns require_signed on when versions are there: the signed
// one may go live, though nobody could check it when it came; the other not.
func TestRequiredLater(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, DefaultConfig())
	add(t, s, "door", "1", 1)
	key, pub := aKey(t)
	m, parts := aBundle(t, "door", "2", 2)
	_, err := s.Add(context.Background(), "", bundleFile(t, m, parts, key), "")
	do(t, err)
	cfg := DefaultConfig()
	cfg.Keys, cfg.RequireSigned = []string{pub}, true
	s = open(t, dir, cfg)
	if err := s.Want("door", Want{Version: "1", Do: DoActivate}); !errors.Is(err, ErrUnsigned) {
		t.Errorf("the unsigned one: %v", err)
	}
	do(t, s.Want("door", Want{Version: "2", Do: DoActivate}))
	if list := s.Untrusted(); len(list) > 0 {
		t.Errorf("nothing is live, and %v", list)
	}
	do(t, open(t, dir, DefaultConfig()).Activate("door", "1", "")) // who asks for no signature
	if list := s.Untrusted(); len(list) != 1 || !errors.Is(list[0], ErrUnsigned) || !strings.Contains(list[0].Error(), "door@1") {
		t.Errorf("the live one is unsigned, and %v", list)
	}
	do(t, s.Activate("door", "2", ""))
	if list := s.Untrusted(); len(list) > 0 {
		t.Errorf("the live one is signed, and %v", list)
	}
}

package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/store"
	"edgegateway/internal/keyfile"
)

// An unsigned version that is live when signatures become required goes on, and
// the log says so at the start.
func TestUnsignedLive(t *testing.T) {
	dir := t.TempDir()
	_, public, _, err := keyfile.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "owner.pub"), public, 0o600); err != nil {
		t.Fatal(err)
	}
	g := versioned(t, dir, "")
	addVersion(t, g.store, "sine@1", "hello_world_int8")
	wantVersion(t, g.store, store.DoActivate, "1")
	lives(t, g.store, "1")
	g.stop()
	const says = "a version that answers would not be taken now"
	if strings.Contains(g.log.String(), says) {
		t.Errorf("nobody asks for a signature:\n%s", g.log)
	}
	g = versioned(t, dir, "store: {keys: [owner.pub], require_signed: true}\n")
	if log := g.log.String(); !strings.Contains(log, says) || !strings.Contains(log, "model sine@1: not signed") {
		t.Errorf("the log says\n%s", log)
	}
	c, in := g.client("sensor"), g.subscribe("results/#")
	if v := g.answering(c, in, 1); v != "1" {
		t.Errorf("version %q answers", v)
	}
}

// A reload applies what the store takes from then on: keys, whether they are
// asked for, the folder that versions are dropped into; what is live and not
// signed is told. A key that is not there changes nothing.
func TestReloadStore(t *testing.T) {
	dir := t.TempDir()
	private, public, id, err := keyfile.New()
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string][]byte{"owner.pem": private, "owner.pub": public} {
		if err := os.WriteFile(at(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"in", "new"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	g := versioned(t, dir, "store: {inbox: in}\n")
	copyModel(t, "hello_world_int8", at("in/sine@1.tflite"))
	until(t, "version 1 is there", func() bool {
		st, err := g.store.State()
		return err == nil && st.Models["sine"].Find("1") != nil
	})
	wantVersion(t, g.store, store.DoActivate, "1")
	lives(t, g.store, "1")
	g.change("{inbox: in}", "{inbox: new, keys: [none.pub], require_signed: true}")
	if err := g.Reload(); err == nil || !strings.Contains(err.Error(), "store.keys: key: open ") {
		t.Errorf("a key that is not there: %v", err)
	}
	wantVersion(t, g.store, store.DoActivate, "1") // nothing is asked for yet
	lives(t, g.store, "1")
	g.change("none.pub", "owner.pub")
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if log := g.log.String(); strings.Count(log, "a version that answers would not be taken now") != 1 || !strings.Contains(log, "model sine@1: not signed") {
		t.Errorf("the log says\n%s", log)
	}
	if err := g.store.Want("sine", store.Want{Version: "1", Do: store.DoActivate}); err == nil || !strings.Contains(err.Error(), "require_signed is set") {
		t.Errorf("an unsigned version is taken: %v", err)
	}
	writeBundle(t, at("plain.bundle"), "hello_world_int8", func(m *store.Manifest) { m.Version = "2" })
	file, err := os.Open(at("plain.bundle"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b, err := store.ReadBundle(file, info.Size(), store.Bounds{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyfile.ReadPrivate(at("owner.pem"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := os.Create(at("new/two.bundle"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Sign(signed, key), signed.Close(), os.Symlink(at("plain.bundle"), at("new/link.bundle"))); err != nil {
		t.Fatal(err)
	}
	copyModel(t, "hello_world_int8", at("in/sine@9.tflite")) // nobody looks there any more
	until(t, "version 2 is there", func() bool {
		st, err := g.store.State()
		v := st.Models["sine"].Find("2")
		return err == nil && v != nil && v.Signed == id
	})
	until(t, "the link is told", func() bool {
		return strings.Contains(g.log.String(), `it is a link, and links are not followed`)
	})
	if st, err := g.store.State(); err != nil || st.Models["sine"].Find("9") != nil {
		t.Errorf("%+v, %v", st.Models["sine"], err)
	}
}

package app

import (
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
	const says = "the live version would not be taken now"
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

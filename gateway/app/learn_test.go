package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/internal/keyfile"
)

// Limits, tasks and keys of federated learning change by a reload; one that
// names a key that is not there changes nothing.
func TestLearnReload(t *testing.T) {
	dir := t.TempDir()
	private, public, _, err := keyfile.New()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"edge.pem": private, "boss.pub": public} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cloud := begin(t, t.TempDir(), "cloud", "")
	if cloud.Status().(Status).FL != nil {
		t.Error("a gateway without a key takes part")
	}
	g := begin(t, dir, "edge", cloudOf(cloud.url)+"\nfl: {key: edge.pem, keys: [boss.pub], limits: {cpu: 0.5}}\n")
	if s := g.Status().(Status).FL; s == nil || s.Worker != "idle" || len(s.Tasks) != 0 {
		t.Errorf("%+v", s)
	}
	g.change("cpu: 0.5", `cpu: 2, hours: ["01:00-02:00"]`)
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if l := g.child.Limits(); l.CPU != 2 || len(l.Hours) != 1 {
		t.Errorf("%+v", l)
	}
	g.change("key: edge.pem", "key: gone.pem")
	if err := g.Reload(); err == nil || !strings.Contains(err.Error(), "fl.key") {
		t.Errorf("a key that is not there: %v", err)
	}
	if s := g.Status().(Status).FL; s == nil {
		t.Error("a reload that was refused ended it")
	}
	g.change("key: gone.pem, keys: [boss.pub]", "tasks: []")
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if s := g.Status().(Status).FL; s != nil {
		t.Errorf("without a key: %+v", s)
	}
	for text, says := range map[string]string{
		"fl: {keys: [boss.pub]}":                                           "fl.key: is missing",
		"fl: {key: edge.pem}":                                              "fl.keys: no coordinator is trusted",
		"fl: {key: edge.pem, keys: [boss.pub], upstream: clod}":            `did you mean "cloud"`,
		"fl: {key: edge.pem, keys: [boss.pub], limits: {memory_bytes: 1}}": "fl.limits.memory_bytes",
		"fl: {margin: 2}":                                                  "fl.margin",
	} {
		file := filepath.Join(dir, "wrong.yaml")
		if err := os.WriteFile(file, []byte("gateway: edge\n"+cloudOf(cloud.url)+"\n"+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadConfig(file); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", text, err, says)
		}
	}
}

package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/internal/keyfile"
)

// A check refuses the keys of federated learning that a start refuses.
func TestCheckFLKeys(t *testing.T) {
	dir := t.TempDir()
	private, public, _, err := keyfile.New()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"hall.pem": private, "c.pub": public, "text.pub": []byte("a text")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ key, keys, want string }{
		{"hall.pem", "c.pub", ""},
		{"gone.pem", "c.pub", ":5:6: fl.key: "},
		{"c.pub", "c.pub", "c.pub holds no private key"},
		{"hall.pem", "gone.pub", ":5:28: fl.keys[0]: "},
		{"hall.pem", "c.pub, hall.pem", "hall.pem holds a private key"},
		{"hall.pem", "text.pub", "text.pub holds no public key"},
	} {
		file := filepath.Join(dir, "c.yaml")
		text := "gateway: hall\nbroker: {listeners: [{tcp: '127.0.0.1:0'}]}\nupstream: {cloud: {url: 'tcp://127.0.0.1:1'}}\n\nfl: {key: " + c.key + ", keys: [" + c.keys + "], tasks: [a]}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := LoadConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Data = t.TempDir()
		_, absent, checked := cfg.CheckFiles()
		if absent != nil || (checked != nil) != (c.want != "") || checked != nil && !strings.Contains(checked.Error(), c.want) {
			t.Errorf("%+v: the check says %v, %v", c, absent, checked)
		}
		a, err := New(cfg, nil, nil, zerolog.Nop(), prometheus.NewRegistry())
		if (err != nil) != (c.want != "") {
			t.Errorf("%+v: the start says %v", c, err)
		}
		if err == nil {
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

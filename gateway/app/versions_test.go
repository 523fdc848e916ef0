package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/gateway/rollout"
	"edgegateway/gateway/upstream"
	"edgegateway/infer"
	"edgegateway/infer/store"
	"edgegateway/internal/offer"
	"edgegateway/internal/testkit"
)

// What an offer finds here: what a version may build on, what became of it, what
// is refused before it is fetched; and what is wanted of it is written down.
func TestVersionsFromTheCloud(t *testing.T) {
	file := testkit.Shared(t, "models/hello_world_float.tflite")
	other := testkit.Shared(t, "models/hello_world_int8.tflite")
	sum := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return store.PartOf(b).SHA256
	}
	s, err := store.Open(t.TempDir(), store.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := t.TempDir()
	roll, err := rollout.Open(rollout.DefaultConfig(), s, data, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	v := versions{&App{store: s, roll: roll, log: zerolog.Nop(), cfg: Config{Models: map[string]infer.ModelConfig{"sine": {File: file}}}}}
	if v.Has(sum(other)) || v.Has(strings.Repeat("0", 64)) {
		t.Error("it has what it has not")
	}
	if !v.Has(sum(file)) {
		t.Error("the model of the configuration is nothing to build on")
	}
	if st, err := s.State(); err != nil || st.Models["sine"].Find("0") == nil {
		t.Errorf("the model of the configuration did not come into the store: %v", err)
	}
	if log, err := os.ReadFile(filepath.Join(data, "audit.jsonl")); err != nil || strings.Count(string(log), `"step":"added","model":"sine","version":"0"`) != 1 {
		t.Errorf("the audit log holds %s, %v", log, err)
	}
	standing := func(want string) {
		t.Helper()
		if state, why := v.Standing("sine", "2", sum(other)); state != want {
			t.Errorf("it stands at %q %q, want %q", state, why, want)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	o := &offer.Offer{ID: "1", Name: "sine", Version: "2", Model: sum(other)}
	standing("")
	do(v.Refuses(o))
	if err := v.Receive(t.Context(), o, ""); !errors.Is(err, upstream.ErrNotNow) {
		t.Errorf("of a version that went meanwhile: %v", err)
	}
	o.Model = sum(file)
	if err := v.Receive(t.Context(), o, other); err == nil || errors.Is(err, upstream.ErrNotNow) {
		t.Errorf("of a file that is another model: %v", err)
	}
	o.Model = sum(other)
	do(v.Receive(t.Context(), o, other))
	standing(offer.Got)
	o.Then = offer.Activate
	do(v.Receive(t.Context(), o, ""))
	standing(offer.Wanted)
	do(s.Mark("sine", "2", store.Trying, "", nil))
	standing("trying")
	do(s.Mark("sine", "2", store.Failed, "too slow", nil))
	standing(offer.Failed)
	do(v.Receive(t.Context(), o, "")) // another push of it
	standing(offer.Wanted)
	do(s.Activate("sine", "2", ""))
	standing(offer.Live)
	do(v.Receive(t.Context(), o, ""))
	if st, err := s.State(); err != nil || st.Models["sine"].Want != nil {
		t.Errorf("what is live is wanted again: %v", err)
	}
	for want, o := range map[string]offer.Offer{
		"with other content": {Name: "sine", Version: "2", Model: sum(file)},
		"none such as 3":     {Name: "sine", Version: "two", Model: sum(file)},
		"make a name here":   {Name: "a b", Model: sum(file)},
	} {
		if err := v.Refuses(&o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
	}
	if err := notNow(&os.PathError{Op: "write", Path: filepath.Join("a", "b"), Err: os.ErrPermission}); !errors.Is(err, upstream.ErrNotNow) {
		t.Errorf("an error of the disk is for good: %v", err)
	}
}

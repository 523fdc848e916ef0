package store

import (
	"context"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"edgegateway/internal/testkit"
)

// TestManifestCheck says what is wrong with a manifest.
func TestManifestCheck(t *testing.T) {
	good, _ := aBundle(t, "door", "2", 1)
	do(t, good.Check())
	nan := math.NaN()
	sum := sumOf(nil)
	for _, c := range []struct {
		change func(*Manifest)
		say    string
	}{
		{func(m *Manifest) { m.Format = 0 }, "format is 0"},
		{func(m *Manifest) { m.Name = "" }, "name"},
		{func(m *Manifest) { m.Version = "two" }, `version "two"`},
		{func(m *Manifest) { m.Minimum = "x" }, "minimum: "},
		{func(m *Manifest) { m.Minimum = "2.1" }, "below the minimum 2.1"},
		{func(m *Manifest) { m.Model = "other.tflite" }, `model: there is no file "other.tflite"`},
		{func(m *Manifest) { m.Labels = "labels.json" }, `labels: there is no file "labels.json"`},
		{func(m *Manifest) { m.Labels = "" }, "file labels.txt: the manifest does not say what it is for"},
		{func(m *Manifest) { m.Files["labels.txt"] = Part{-1, sum} }, "labels.txt: -1 bytes"},
		{func(m *Manifest) { m.Files["labels.txt"] = Part{1, strings.ToUpper(sum)} }, "is no such thing"},
		{func(m *Manifest) { m.Files["a/../b"] = Part{0, sum} }, "no plain path"},
		{func(m *Manifest) { m.Files["a//b"] = Part{0, sum} }, "no plain path"},
		{func(m *Manifest) { m.Golden[0].Tolerance = -1 }, "golden 0: -1 is no tolerance"},
		{func(m *Manifest) { m.Golden[0].Tolerance = nan }, "golden 0: NaN is no tolerance"},
		{func(m *Manifest) { m.Golden[0].Outputs = nil }, "golden 0: 1 inputs and 0 outputs"},
		{func(m *Manifest) { m.Golden[0].Inputs = []string{"none"} }, `golden 0: there is no file "none"`},
		{func(m *Manifest) { m.Golden = slices.Repeat(m.Golden, 101) }, "101 golden inputs"},
		{func(m *Manifest) { m.Limits.Millis = math.Inf(1) }, "limits: "},
		{func(m *Manifest) { m.Limits.MemoryBytes = -1 }, "limits: "},
		{func(m *Manifest) { m.Settings.Threshold = &nan }, "settings: threshold NaN"},
		{func(m *Manifest) { m.Settings.Top = -1 }, "settings: top -1"},
		{func(m *Manifest) { m.Settings.Input = &Input{Fit: "squeeze"} }, "input.fit"},
		{func(m *Manifest) { m.Settings.Input = &Input{Channels: "gbr"} }, "input.channels"},
		{func(m *Manifest) { m.Settings.Input = &Input{Std: []float64{0}} }, "divided by 0"},
		{func(m *Manifest) { m.Licence = "a\x1b[2Jb" }, "licence: is no text"},
		{func(m *Manifest) { m.Provenance = strings.Repeat("x", maxText+1) }, "provenance: is no text"},
	} {
		m := good
		m.Files, m.Golden = maps.Clone(good.Files), slices.Clone(good.Golden)
		c.change(&m)
		if err := m.Check(); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("not %q: %v", c.say, err)
		}
	}
}

// TestAuthor takes licence and origin of a plain model from what its author
// packed into it.
func TestAuthor(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig())
	_, err := s.Add(context.Background(), "sounds", testkit.Shared(t, "models/yamnet_audio_classifier_with_metadata.tflite"), "")
	do(t, err)
	f, err := s.Files("sounds", "1")
	do(t, err)
	if !strings.Contains(f.Manifest.Provenance, "yamnet/classification, Recognizes 521 sound event classes") {
		t.Errorf("its origin is %q", f.Manifest.Provenance)
	}
}

// TestMakeRoom makes room in stores of every kind: whatever goes, the live
// version, the one before and all that is at work or wanted stay, and nothing
// goes that need not.
func TestMakeRoom(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := Config{Keep: rapid.IntRange(3, 6).Draw(rt, "keep"), KeepBytes: rapid.Int64Range(50, 400).Draw(rt, "bytes")}
		s := &Store{}
		s.terms.Store(&terms{Config: cfg})
		st := State{Models: map[string]*ModelState{}}
		for _, name := range []string{"a", "b"} {
			n := rapid.IntRange(1, 6).Draw(rt, "versions")
			m := &ModelState{}
			for i := range n {
				m.Versions = append(m.Versions, Version{
					Version: strconv.Itoa(i + 1), Bytes: rapid.Int64Range(1, 60).Draw(rt, "size"), Stage: rapid.SampledFrom(stages).Draw(rt, "stage"),
					Added: time.Unix(rapid.Int64Range(0, 20).Draw(rt, "added"), 0),
				})
			}
			one := rapid.IntRange(0, n)
			if k := one.Draw(rt, "live"); k > 0 {
				m.Live = strconv.Itoa(k)
			}
			if k := one.Draw(rt, "previous"); k > 0 {
				m.Previous = strconv.Itoa(k)
			}
			if k := one.Draw(rt, "wanted"); k > 0 {
				m.Want = &Want{Version: strconv.Itoa(k), Do: DoActivate}
			}
			st.Models[name] = m
		}
		was := st.clone()
		v := Version{Version: "9", Bytes: rapid.Int64Range(1, 100).Draw(rt, "new")}
		err := s.makeRoom(st, "a", v)
		gone := 0
		for name, m := range was.Models {
			for i := range m.Versions {
				old := &m.Versions[i]
				if st.Models[name].Find(old.Version) != nil {
					continue
				}
				gone++
				if m.busy(old) {
					rt.Fatalf("%s@%s had to stay: %+v", name, old.Version, m)
				}
			}
		}
		fits := len(st.Models["a"].Versions) < cfg.Keep && st.bytes()+v.Bytes <= cfg.KeepBytes
		if fits != (err == nil) {
			rt.Fatalf("%d versions, %d bytes: %v", len(st.Models["a"].Versions), st.bytes(), err)
		}
		if gone > 0 && len(was.Models["a"].Versions) < cfg.Keep && was.bytes()+v.Bytes <= cfg.KeepBytes {
			rt.Fatalf("%d went, and there was room", gone)
		}
	})
}

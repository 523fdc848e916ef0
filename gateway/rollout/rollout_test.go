package rollout

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgegateway/infer"
	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// worked are the counts of a model that was asked n times, so slow, of which
// so many failed.
func worked(version string, n, failed int, took time.Duration) infer.Counts {
	return infer.CountsOf(version, failed, took, n)
}

func TestJudge(t *testing.T) {
	cfg := DefaultConfig()
	strict := cfg
	strict.Millis, strict.Slower = 3, 0
	for _, c := range []struct {
		name        string
		cfg         Config
		before, now infer.Counts
		limits      store.Limits
		want        string // "": it stays
	}{
		{"as before", cfg, worked("1", 500, 0, time.Millisecond), worked("2", 500, 0, time.Millisecond), store.Limits{}, ""},
		{"a few failures", cfg, worked("1", 500, 0, time.Millisecond), worked("2", 495, 5, time.Millisecond), store.Limits{}, ""},
		{"failures", cfg, worked("1", 500, 0, time.Millisecond), worked("2", 450, 50, time.Millisecond), store.Limits{}, "10.0 % of 500 inputs failed, 0.0 % with the version before"},
		{"as many failures as before", cfg, worked("1", 450, 50, time.Millisecond), worked("2", 450, 50, time.Millisecond), store.Limits{}, ""},
		{"all fail", cfg, worked("1", 500, 0, time.Millisecond), worked("2", 0, 200, 0), store.Limits{}, "100.0 %"},
		{"slower", cfg, worked("1", 500, 0, time.Millisecond), worked("2", 500, 0, 10*time.Millisecond), store.Limits{}, "that of the version before"},
		{"somewhat slower", cfg, worked("1", 500, 0, time.Millisecond), worked("2", 500, 0, 4*time.Millisecond), store.Limits{}, ""},
		{"ten times a few microseconds", cfg, worked("1", 500, 0, 10*time.Microsecond), worked("2", 500, 0, 100*time.Microsecond), store.Limits{}, ""},
		{"its own limit", cfg, worked("1", 500, 0, time.Millisecond), worked("2", 500, 0, 4*time.Millisecond), store.Limits{Millis: 2}, "the limit is 2 ms"},
		{"the configuration's limit", strict, worked("1", 500, 0, time.Millisecond), worked("2", 500, 0, 10*time.Millisecond), store.Limits{Millis: 20}, "the limit is 3 ms"},
		{"nothing before", cfg, infer.Counts{}, worked("2", 500, 0, time.Second), store.Limits{}, ""},
	} {
		got := c.cfg.judge(c.before, c.now, c.limits)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if cfg.enough(worked("1", 150, 49, time.Second)) || !cfg.enough(worked("1", 150, 50, time.Second)) {
		t.Error("200 inputs are to be enough, fewer are not")
	}
}

// How often the gateway died of a version, as its log tells.
func TestDeadly(t *testing.T) {
	cfg := Config{Watch: time.Hour}
	for log, want := range map[string]int{
		"":                                      0,
		"start live=2 stop start stop start":    0,
		"start live=2 start":                    1,
		"start live=2 start start start":        3,
		"start live=2 start stop start start":   2,
		"start live=2 start live=3 start":       0,
		"start live=2 start back=2 start start": 0,
		"start live=2 hour start start":         0,
		"live=2 start start hour start":         2,
		"start stop set=2 hour start start":     1,
		"start set=2 start stop start start":    1,
		"set=2 start start set=3 start start":   0,
		"set=2 start hour start":                0,
	} {
		now := time.Unix(0, 0)
		var entries []Entry
		for word := range strings.FieldsSeq(log) {
			now = now.Add(time.Minute)
			what, version, _ := strings.Cut(word, "=")
			switch what {
			case "hour":
				now = now.Add(time.Hour)
			case "live":
				entries = append(entries, Entry{Time: now, Step: StepLive, Model: "m", Version: version})
			case "set":
				entries = append(entries, Entry{Time: now, Step: StepActivated, Model: "m", Version: version})
			case "back":
				entries = append(entries, Entry{Time: now, Step: StepRolledBack, Model: "m", Version: version})
			default:
				entries = append(entries, Entry{Time: now, Step: what})
			}
		}
		if got := cfg.deadly(entries, "m", "2"); got != want {
			t.Errorf("%s: %d, want %d", log, got, want)
		}
	}
}

// The log is bounded, and what a power cut tore costs one line.
func TestAudit(t *testing.T) {
	a := openAudit(t.TempDir())
	a.most = 4000
	add := func(n int) {
		t.Helper()
		if err := a.add(Entry{Time: time.Unix(int64(n), 0), Step: StepLive, Model: "m", Version: fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 200 {
		add(n)
	}
	list, err := a.Entries()
	if err != nil || len(list) < 40 || len(list) > 120 {
		t.Fatalf("%d entries are kept, %v", len(list), err)
	}
	for i, e := range list {
		if e.Version != fmt.Sprint(200-len(list)+i) {
			t.Fatalf("entry %d is of %s", i, e.Version)
		}
	}
	b, err := os.ReadFile(a.path())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.path(), b[:len(b)-20], 0o600); err != nil {
		t.Fatal(err)
	}
	add(200)
	after, err := a.Entries()
	if err != nil || len(after) != len(list) || after[len(after)-1].Version != "200" || after[len(after)-2].Version != "198" {
		t.Errorf("%d entries, %v", len(after), err)
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for want, c := range map[string]Config{
		"watch: ":    {Watch: -1, After: 10},
		"after: ":    {After: 9},
		"failures: ": {After: 10, Failures: 1.1},
		"slower: ":   {After: 10, Slower: 1},
		"p99_ms: ":   {After: 10, Millis: -1},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// What the configuration says wins over a bundle's settings, but for labels.
func TestApply(t *testing.T) {
	half, tenth := 0.5, 0.1
	f := store.Files{Model: "/s/files/a", Accelerated: "/s/files/b", Labels: "/s/files/c"}
	f.Manifest.Settings = store.Settings{Output: "classes", Threshold: &tenth, Top: 2, Input: &store.Input{Fit: "crop", Mean: []float64{1}}}
	v := store.Version{Version: "3"}
	plain := infer.ModelConfig{File: "a.tflite", Output: "auto", Top: 5, Classes: []string{"x"}, Accelerated: "a_edgetpu.tflite", Delegate: "builtin"}
	got := Apply(plain, v, f)
	if got.File != f.Model || got.Accelerated != f.Accelerated || got.Labels != f.Labels || got.Classes != nil || got.Output != "classes" || *got.Threshold != tenth || got.Top != 2 || got.Version != "3" || got.Delegate != "builtin" || got.Picture == nil || got.Picture.Fit != "crop" || got.Picture.Mean[0] != 1 {
		t.Errorf("%+v", got)
	}
	said := infer.ModelConfig{Output: "raw", Top: 7, Threshold: &half, Labels: "own.txt"}
	f.Labels = ""
	got = Apply(said, v, f)
	if got.Output != "raw" || got.Top != 7 || *got.Threshold != half || got.Labels != "own.txt" {
		t.Errorf("%+v", got)
	}
}

// A live version whose file is damaged gives way to the one before it, and that
// to the configuration's file.
func TestDamagedVersion(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir, store.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, model := range []string{"hello_world_float", "hello_world_int8"} {
		v := fmt.Sprint(i + 1)
		if _, err := s.Add(t.Context(), "m@"+v, testkit.Shared(t, "models/"+model+".tflite"), "test"); err != nil {
			t.Fatal(err)
		}
		if err := s.Activate("m", v, "test"); err != nil {
			t.Fatal(err)
		}
	}
	own := filepath.Join(dir, "own.tflite")
	served := func(file string) (infer.ModelConfig, int, error) {
		set, err := Resolve(s, map[string]infer.ModelConfig{"m": {File: file}}, nil)
		if set == nil {
			t.Fatal(err)
		}
		return set.Models["m"], len(set.Damaged), err
	}
	spoil := func(version string) {
		t.Helper()
		f, err := s.Files("m", version)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(f.Model, 100); err != nil {
			t.Fatal(err)
		}
	}
	if c, n, err := served(own); c.Version != "2" || n != 0 || err != nil {
		t.Errorf("%+v, %d damaged, %v", c, n, err)
	}
	// A file that was changed speaks, unless it is no model.
	if err := s.SetConfigured("m", strings.Repeat("0a", 32)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, []byte("this is no model"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, n, err := served(own); c.Version != "2" || n != 0 || err != nil {
		t.Errorf("%+v, %d damaged, %v", c, n, err)
	}
	if set, err := Resolve(s, map[string]infer.ModelConfig{"m": {File: own}}, nil); err != nil || len(set.PassedOver) != 1 || !strings.HasPrefix(set.PassedOver[0].Error(), "models.m.file: "+own+" is passed over, and version 2 of the store is to be live: not a valid .tflite") {
		t.Errorf("passed over are %v, %v", set.PassedOver, err)
	}
	whole, err := os.ReadFile(testkit.Shared(t, "models/kws_ref_model.tflite"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, n, err := served(own); c.Version != "" || c.File != own || n != 0 || err != nil {
		t.Errorf("%+v, %d damaged, %v", c, n, err)
	}
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	spoil("2")
	if c, n, err := served(own); c.Version != "1" || n != 1 || err != nil {
		t.Errorf("%+v, %d damaged, %v", c, n, err)
	}
	spoil("1")
	if c, n, err := served(own); c.Version != "" || c.File != own || n != 2 || err != nil {
		t.Errorf("%+v, %d damaged, %v", c, n, err)
	}
	if _, _, err := served(""); err == nil || !strings.Contains(err.Error(), "models.m.file: is missing") {
		t.Error(err)
	}
}

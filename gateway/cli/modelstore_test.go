package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgegateway/infer"
	"edgegateway/infer/drift"
	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// says runs a command that fails with a code, and whose error holds words.
func says(t *testing.T, code int, words string, args ...string) {
	t.Helper()
	got := run(t, "", args...)
	if got.code != code || !strings.Contains(got.stderr, words) {
		t.Errorf("%s: exit code %d, not %d with %q: %s", strings.Join(args, " "), got.code, code, words, got.stderr)
	}
}

// referenceOf is a reference for drift of samples of these numbers, the first ones
// of inputs.
func referenceOf(t *testing.T, names []string, inputs int) string {
	t.Helper()
	l, err := drift.NewLearner(names, inputs, false, drift.MinSamples)
	if err != nil {
		t.Fatal(err)
	}
	row := make([]float64, len(names))
	for i := range drift.MinSamples {
		for k := range row {
			row[k] = float64((i*37 + k) % 101)
		}
		l.Add(row, "")
	}
	ref, err := l.Reference()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := ref.Write(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// What a version brings beside its model has to fit it: where it is made, where
// a bundle of another maker is checked, and where it is tried.
func TestBundleOfRubbish(t *testing.T) {
	dir := t.TempDir()
	file := testkit.Shared(t, "models/kws_ref_model.tflite")
	model, two := read(t, file), write(t, dir, "two.txt", "a\nb\n")
	three, sine := 3.0, referenceOf(t, []string{"x", "score", "values[0]"}, 1)
	for _, tt := range []struct {
		want     string
		flags    []string
		labels   string
		ref      string
		settings store.Settings
	}{
		{"names 2 of the 12 classes", []string{"--labels", two}, "a\nb\n", "", store.Settings{}},
		{"13 labels, and output", []string{"--labels", write(t, dir, "many.txt", strings.Repeat("w\n", 13))}, strings.Repeat("w\n", 13), "", store.Settings{}},
		{"drift reference: ", []string{"--reference", two}, "", "a\nb\n", store.Settings{}},
		{"is not of this model: it knows 1 numbers of an input, and the model takes 490", []string{"--reference", write(t, dir, "sine.json", sine)}, "", sine, store.Settings{}},
		{"threshold: 3 is not in 0..1", []string{"--threshold", "3"}, "", "", store.Settings{Threshold: &three}},
		{"output: ", []string{"--output", "blazeface"}, "", "", store.Settings{Output: "blazeface"}},
	} {
		out := filepath.Join(dir, "no.bundle")
		says(t, 3, tt.want, append([]string{"model", "bundle", "--version", "1", "--out", out, file}, tt.flags...)...)
		if _, err := os.Stat(out); err == nil {
			t.Fatal("a bundle is written")
		}
		parts := map[string][]byte{"model.tflite": []byte(model)}
		m := store.Manifest{Format: store.Format, Name: "kws", Version: "1", Model: "model.tflite", Settings: tt.settings, Files: map[string]store.Part{}}
		if tt.labels != "" {
			m.Labels, parts["labels.txt"] = "labels.txt", []byte(tt.labels)
		}
		if tt.ref != "" {
			m.Reference, parts["reference.json"] = "reference.json", []byte(tt.ref)
		}
		for name, data := range parts {
			m.Files[name] = store.PartOf(data)
		}
		var bad bytes.Buffer
		if err := store.WriteBundle(&bad, m, parts, nil); err != nil {
			t.Fatal(err)
		}
		path := write(t, dir, "kws-1.bundle", bad.String())
		says(t, 3, tt.want, "model", "verify", path)
		says(t, 3, tt.want, "model", "preflight", path)
	}
}

// TestVersionsByCommand takes a model through the commands where no gateway
// runs: keys, bundles, signatures, the store, and what is refused.
func TestVersionsByCommand(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	float, int8 := testkit.Shared(t, "models/hello_world_float.tflite"), testkit.Shared(t, "models/hello_world_int8.tflite")
	done(t, "", "keys", "new", at("factory"))
	done(t, "", "keys", "new", at("other"))
	says(t, 2, `"" is no name of a file`, "keys", "new", "")
	says(t, 2, "is there already", "keys", "new", at("factory"))
	if info, err := os.Stat(at("factory.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key is for others too: %v, %v", info.Mode(), err)
	}

	bundle := func(version, model string, more ...string) string {
		t.Helper()
		out := at("hello-" + version + ".bundle")
		done(t, "", append([]string{"model", "bundle", "--name", "hello", "--version", version, "--out", out, model}, more...)...)
		return out
	}
	one := bundle("1", float, "--golden", "3", "--licence", "Apache-2.0", "--max-ms", "5")
	two := bundle("2", int8, "--golden", "2", "--key", at("factory.pem"), "--pack")
	says(t, 2, "--version is missing", "model", "bundle", float)
	says(t, 2, "--tolerance does nothing", "model", "bundle", "--version", "1", "--tolerance", "1", float)
	says(t, 2, `the version "v1"`, "model", "bundle", "--version", "v1", float)
	says(t, 3, "no such file", "model", "bundle", "--version", "1", at("none.tflite"))
	says(t, 3, "holds no private key", "model", "bundle", "--version", "1", "--key", at("factory.pub"), "--out", at("x.bundle"), float)

	done(t, "", "model", "verify", "--key", at("factory.pub"), two)
	says(t, 3, "signed with a key that is not trusted", "model", "verify", "--key", at("other.pub"), two)
	says(t, 3, "not signed", "model", "verify", "--key", at("factory.pub"), one)
	damaged := []byte(read(t, one))
	damaged[len(damaged)/2] ^= 1
	says(t, 3, "damaged", "model", "verify", write(t, dir, "damaged.bundle", string(damaged)))
	done(t, "", "model", "sign", "--key", at("other.pem"), "--out", at("resigned.bundle"), two)
	done(t, "", "model", "verify", "--key", at("other.pub"), at("resigned.bundle"))

	// A gateway that trusts the factory alone.
	config := write(t, dir, "hall.yaml", fmt.Sprintf("data: %s\nstore: {keys: [factory.pub], require_signed: true}\n", at("data")))
	says(t, 3, "there are no versions of models", "model", "list", "--config", config)
	if _, err := os.Stat(at("data")); err == nil {
		t.Error("looking made a folder")
	}
	says(t, 3, "not signed", "model", "add", "--config", config, one)
	says(t, 3, "not signed", "model", "add", "--config", config, float)
	says(t, 3, "not trusted", "model", "add", "--config", config, at("resigned.bundle"))
	done(t, "", "model", "sign", "--key", at("factory.pem"), one)
	done(t, "", "model", "add", "--config", config, one)
	done(t, "", "model", "add", "--config", config, one)
	done(t, "", "model", "add", "--config", config, two)
	says(t, 3, "new version", "model", "add", "--config", config, bundle("2", float, "--key", at("factory.pem")))

	if said := done(t, "", "model", "activate", "--config", config, "hello@1"); !strings.Contains(said, "nothing serves it: models.hello brings it in") {
		t.Error(said)
	}
	done(t, "", "model", "activate", "--config", config, "hello@2")
	live := func(want, before string) {
		t.Helper()
		var list []struct {
			Name, Version, Signed string
			Live, Previous        bool
		}
		if err := json.Unmarshal([]byte(done(t, "", "model", "list", "--json", "--config", config)), &list); err != nil {
			t.Fatal(err)
		}
		for _, v := range list {
			if v.Name != "hello" || v.Live != (v.Version == want) || v.Previous != (v.Version == before) || v.Signed == "" {
				t.Errorf("with %s live: %+v", want, v)
			}
		}
		if len(list) != 2 {
			t.Errorf("there are %+v", list)
		}
	}
	live("2", "1")
	done(t, "", "model", "rollback", "--config", config, "hello")
	live("1", "2")
	says(t, 3, "live, or the one before it", "model", "rm", "--config", config, "hello@2")
	says(t, 3, "there are 1, 2", "model", "activate", "--config", config, "hello@7")
	says(t, 3, "there are hello", "model", "show", "--config", config, "helo")
	says(t, 2, "names no version", "model", "activate", "--config", config, "hello")
	var shown struct {
		Version  string
		Live     bool
		Manifest store.Manifest
		Files    string
	}
	if err := json.Unmarshal([]byte(done(t, "", "model", "show", "--json", "--config", config, "hello")), &shown); err != nil {
		t.Fatal(err)
	}
	if shown.Version != "1" || !shown.Live || shown.Manifest.Licence != "Apache-2.0" || shown.Manifest.Limits.Millis != 5 || read(t, shown.Files) != read(t, float) {
		t.Errorf("shown is %+v", shown)
	}
	if text := done(t, "", "model", "show", "--config", config, "hello@2"); !strings.Contains(text, "2 golden inputs") || !strings.Contains(text, "signed by ") {
		t.Error(text)
	}
	if a, b := done(t, "", "model", "diff", "--config", config, "hello@1", "hello@2"), done(t, "", "model", "diff", float, int8); a != b {
		t.Errorf("the versions differ otherwise than their files:\n%s\n%s", a, b)
	} else if b := done(t, "", "model", "diff", one, at("resigned.bundle")); a != b {
		t.Errorf("the versions differ otherwise than their bundles:\n%s\n%s", a, b)
	}
	says(t, 3, "this is a model, and no bundle", "model", "verify", float)
	says(t, 3, "this is a model, and no bundle", "model", "sign", "--key", at("factory.pem"), float)
	says(t, 3, "not in the store", "model", "diff", "--config", config, "hello@1", "hello@3")
}

// TestThinBundle sends what changed since a version that the gateway has.
func TestThinBundle(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	model := testkit.Shared(t, "models/hello_world_float.tflite")
	done(t, "", "cluster", model, "--clusters", "16", "--out", at("next.tflite"))
	done(t, "", "model", "bundle", "--name", "vww", "--version", "1", "--out", at("1.bundle"), model)
	done(t, "", "model", "bundle", "--name", "vww", "--version", "2", "--out", at("2.bundle"), at("next.tflite"))
	done(t, "", "model", "bundle", "--name", "vww", "--version", "2", "--base", model, "--out", at("thin.bundle"), at("next.tflite"))
	if thin, whole := len(read(t, at("thin.bundle"))), len(read(t, at("2.bundle"))); thin >= whole {
		t.Errorf("the thin one has %d bytes, the whole one %d", thin, whole)
	}
	says(t, 3, "--base names that", "model", "verify", at("thin.bundle"))
	done(t, "", "model", "verify", "--base", model, at("thin.bundle"))
	says(t, 3, "no version here has the model", "model", "add", "--data", at("data"), at("thin.bundle"))
	done(t, "", "model", "add", "--data", at("data"), at("1.bundle"))
	done(t, "", "model", "add", "--data", at("data"), at("thin.bundle"))
}

// TestGolden holds golden inputs against the model itself: the same kernels give
// the same bytes, others what the tolerance allows.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		model string
		more  []string
		n     int
	}{
		"made-up":  {testkit.Shared(t, "models/hello_world_float.tflite"), nil, 4},
		"integers": {testkit.Shared(t, "models/kws_ref_model.tflite"), nil, 2},
		"pictures": {testkit.Shared(t, "models/vww_96_int8.tflite"), []string{"--data", testkit.Shared(t, "data/cats")}, 3},
		"words":    {testkit.Shared(t, "models/movie_review.tflite"), nil, 2},
		"faces":    {testkit.Cached(t, "demo/face_detection_short_range.tflite"), []string{"--tolerance", "0.005"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(dir, name+".bundle")
			done(t, "", append([]string{"model", "bundle", "--name", name, "--version", "1", "--golden", fmt.Sprint(c.n), "--out", out, c.model}, c.more...)...)
			data := []byte(read(t, out))
			b, err := store.ReadBundle(bytes.NewReader(data), int64(len(data)), store.Bounds{})
			if err != nil {
				t.Fatal(err)
			}
			if len(b.Manifest.Golden) != c.n {
				t.Fatalf("it has %d golden inputs", len(b.Manifest.Golden))
			}
			part := func(name string) []byte {
				t.Helper()
				data, err := b.Part(name, nil)
				if err != nil {
					t.Fatal(err)
				}
				return data
			}
			s, err := infer.OpenSession(part(b.Manifest.Model), "builtin", "")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			seen := map[string]bool{}
			for i, g := range b.Manifest.Golden {
				for k := range s.In {
					if err := s.In[k].SetBytes(part(g.Inputs[k])); err != nil {
						t.Fatal(err)
					}
					seen[b.Manifest.Files[g.Inputs[k]].SHA256] = true
				}
				if err := s.Invoke(); err != nil {
					t.Fatal(err)
				}
				for k := range s.Out {
					if !bytes.Equal(s.Out[k].Data, part(g.Outputs[k])) {
						t.Errorf("golden input %d: the model itself answers otherwise", i)
					}
				}
				if g.Tolerance <= 0 || name == "faces" && g.Tolerance != 0.005 {
					t.Errorf("its tolerance is %v", g.Tolerance)
				}
			}
			if len(seen) < c.n {
				t.Errorf("of %d golden inputs are %d different", c.n, len(seen))
			}
		})
	}
	table := write(t, dir, "angles.csv", "x\n0.5\n1\n")
	says(t, 2, "has 2 samples", "model", "bundle", "--name", "x", "--version", "1", "--golden", "5", "--data", table, "--out", filepath.Join(dir, "x.bundle"), testkit.Shared(t, "models/hello_world_float.tflite"))
}

// held is a data folder that somebody holds as a running gateway does, so that a
// test decides when a wish is done and how it ends.
func held(t *testing.T, data string) *store.Store {
	t.Helper()
	s := openStore(t, data)
	lock, err := os.Create(filepath.Join(data, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(lock, "gateway %q, process %d\n", "hall-7", os.Getpid())
	return s
}

// TestWishWaits waits for the gateway that has the data folder: for one that
// comes to its end, one that fails, and one that nobody waits for any more.
func TestWishWaits(t *testing.T) {
	data := t.TempDir()
	model := testkit.Shared(t, "models/hello_world_float.tflite")
	for _, v := range []string{"1", "2", "3"} {
		done(t, "", "model", "bundle", "--name", "hello", "--version", v, "--out", filepath.Join(data, v+".bundle"), model)
		done(t, "", "model", "add", "--data", data, filepath.Join(data, v+".bundle"))
	}
	done(t, "", "model", "activate", "--data", data, "hello@1")
	s := held(t, data)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(s.Mark("hello", "2", store.Added, "", nil))
	wanted := func(version string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			st, err := s.State()
			ok(err)
			if w := st.Models["hello"].Want; w != nil && w.Version == version {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("nobody wants version %s: %+v", version, st.Models["hello"])
			}
		}
	}

	p := start(t, "model", "activate", "--data", data, "hello@2")
	wanted("2")
	ok(s.Mark("hello", "2", store.Trying, "pre-flight", nil))
	p.Line("hello@2: trying pre-flight")
	ok(s.Activate("hello", "2", "passed its pre-flight"))
	p.Line("hello@2 is live: passed its pre-flight")
	if code := p.Exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	// The live one is wanted again, and cannot be served.
	p = start(t, "model", "activate", "--data", data, "hello@2")
	wanted("2")
	ok(s.Mark("hello", "2", store.Failed, "damaged; version 1 answers", nil))
	p.Line("hello@2 is to be live, and cannot be served: damaged; version 1 answers")
	if code := p.Exit(); code != 3 {
		t.Errorf("exit code %d of a live one that cannot be served", code)
	}
	if text := done(t, "", "model", "list", "--data", data); !strings.Contains(text, "live, not served") {
		t.Error(text)
	}
	ok(s.Mark("hello", "2", store.Passed, "", nil))

	p = start(t, "model", "activate", "--data", data, "hello@3")
	wanted("3")
	ok(s.Mark("hello", "3", store.Failed, "golden input 0 is off by 40 steps", nil))
	p.Line("hello@3 failed: golden input 0 is off by 40 steps; version 2 answers as before")
	if code := p.Exit(); code != 3 {
		t.Errorf("exit code %d of one that failed", code)
	}

	p = start(t, "model", "rollback", "--data", data, "hello")
	wanted("1")
	p.Signal(syscall.SIGINT)
	p.Line("stopped waiting: gateway hall-7 still does it")
	if code := p.Exit(); code != 1 {
		t.Errorf("exit code %d after Ctrl-C", code)
	}
	wanted("1")

	p = start(t, "model", "activate", "--rollout", "--data", data, "hello@3")
	wanted("3")
	ok(s.Mark("hello", "3", store.Shadow, "", nil))
	p.Line(`hello@3 runs beside version 2 \(shadow\)`)
	if code := p.Exit(); code != 0 {
		t.Errorf("exit code %d of a rollout", code)
	}
	says(t, 3, "beside the live one is 3", "model", "promote", "--data", data, "hello@1")
	wantedTo := func(do string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			st, err := s.State()
			ok(err)
			if w := st.Models["hello"].Want; w != nil && w.Do == do {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("nobody wants to %s: %+v", do, st.Models["hello"])
			}
		}
	}
	p = start(t, "model", "promote", "--data", data, "hello")
	wantedTo(store.DoActivate)
	ok(s.Activate("hello", "3", "activated by command"))
	p.Line("hello@3 is live: activated by command$")
	if code := p.Exit(); code != 0 {
		t.Errorf("exit code %d of one that is promoted", code)
	}
	says(t, 3, "no version is beside the live one", "model", "withdraw", "--data", data, "hello")
	ok(s.Mark("hello", "1", store.Canary, "", nil))
	ok(s.Want("hello", store.Want{Do: store.DoRollout, Version: "1"}))
	p = start(t, "model", "withdraw", "--data", data, "hello")
	wantedTo(store.DoWithdraw)
	ok(s.Mark("hello", "1", store.Withdrawn, "withdrawn by command", nil))
	p.Line("hello@1 is withdrawn; version 3 answers as before")
	if code := p.Exit(); code != 0 {
		t.Errorf("exit code %d of one that is withdrawn", code)
	}
	ok(s.Mark("hello", "2", store.Withdrawn, "its errors were too many", nil))
	says(t, 3, "hello@2, which was withdrawn (its errors were too many)", "model", "rollback", "--data", data, "hello")
	if text := done(t, "", "model", "activate", "--no-wait", "--data", data, "hello@2"); !strings.Contains(text, "gateway hall-7 is to activate hello@2") {
		t.Error(text)
	}
}

package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// A packed model is a model: for the commands, and for the gateway, which
// answers over MQTT as the .tflite itself does; also one that holds only what
// changed since an older version that lies beside it.
func TestPackedModels(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	test := testkit.Shared(t, "data/occupancy_test.csv")
	done(t, "", "train", "--data", testkit.Shared(t, "data/occupancy_train.csv"), "--target", "Occupancy", "--samples", "2000", "--epochs", "1", "--out", at("room.tflite"))
	done(t, "", "cluster", at("room.tflite"), "--clusters", "16", "--out", at("next.tflite"))

	said := done(t, "", "pack", at("room.tflite"))
	if !strings.Contains(said, "room.pack: ") || !strings.Contains(said, "header and tables") {
		t.Error(said)
	}
	var made struct {
		Bytes, Packed int
		Content       string `json:"sha256"`
		Base          string `json:"base_sha256"`
		Parts         []struct{ Packed int }
	}
	if err := json.Unmarshal([]byte(done(t, "", "pack", "--json", "--base", at("room.pack"), "--out", at("next.pack"), at("next.tflite"))), &made); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, p := range made.Parts {
		sum += p.Packed
	}
	if f, err := os.Stat(at("next.pack")); err != nil || f.Size() != int64(made.Packed) || sum != made.Packed || made.Packed*3 > made.Bytes {
		t.Errorf("%+v, the parts add up to %d, the file is %v, %v", made, sum, f.Size(), err)
	}
	original := map[string]string{}
	for _, name := range []string{"room", "next"} {
		original[name] = read(t, at(name+".tflite"))
		var back struct {
			Bytes, Packed int
			Content       string `json:"sha256"`
			Base          string `json:"base_sha256"`
		}
		text := done(t, "", "unpack", "--json", "--out", at(name+"-again.tflite"), at(name+".pack"))
		if err := json.Unmarshal([]byte(text), &back); err != nil || back.Bytes != len(original[name]) || (back.Base != "") != (name == "next") || name == "next" && (back.Content != made.Content || back.Packed != made.Packed) {
			t.Errorf("%v, %s beside %+v", err, text, made)
		}
		if read(t, at(name+"-again.tflite")) != original[name] {
			t.Errorf("%s does not come back", name)
		}
	}

	// The commands take them. Only the base is left of the .tflite files.
	for _, name := range []string{"room-again.tflite", "next-again.tflite", "next.tflite"} {
		if err := os.Rename(at(name), filepath.Join(t.TempDir(), name)); err != nil {
			t.Fatal(err)
		}
	}
	row := write(t, dir, "row.csv", "23.18,27.272,426,721.25,0.00479\n")
	for _, args := range [][]string{
		{"model", "inspect", at("next.pack")},
		{"model", "try", at("next.pack")},
		{"model", "run", "--csv", at("next.pack"), row},
		{"quantize", "--scheme", "float16", "--out", at("half.tflite"), at("next.pack")},
		{"evaluate", "--data", test, "--target", "Occupancy", "--samples", "50", at("next.pack"), at("room.tflite")},
	} {
		done(t, "", args...)
	}
	if d := run(t, "", "model", "diff", at("room.pack"), at("room.tflite")); d.code != 0 || strings.Contains(d.stdout, "changed") {
		t.Errorf("a packed model differs from itself: %+v", d)
	}

	rows := numbers(t, table(t, test), 2, 7)[:40]
	text := strings.SplitAfterN(read(t, test), "\n", 42)
	part := write(t, dir, "part.csv", strings.Join(text[:41], ""))
	want := modelled(t, write(t, t.TempDir(), "next.tflite", original["next"]), rows)
	broker := testkit.FreeAddr(t)
	config := write(t, dir, "gateway.yaml", fmt.Sprintf(`data: %s/data
broker: {listeners: [{tcp: %q}]}
dashboard: {listen: ""}
models: {next: {file: next.pack}}
streams:
  room:
    topics: [room/+]
    input:
      csv: {columns: [date, Temperature, Humidity, Light, CO2, HumidityRatio, Occupancy], values: [Temperature, Humidity, Light, CO2, HumidityRatio]}
      time: date
    model: next
`, dir, broker))
	p := start(t, "run", "--config", config)
	p.Line(` ready `)
	for i, r := range replayed(t, broker, "room/office", part, len(want)) {
		r.is(t, i, want[i])
	}
	interrupt(t, p)

	// Without what it builds on it is refused, and the hash is named.
	for _, name := range []string{"room.tflite", "room.pack"} {
		if err := os.Remove(at(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"run", "--config", config}, {"model", "inspect", at("next.pack")}, {"unpack", at("next.pack")}} {
		if r := run(t, "", args...); r.code != 3 || !strings.Contains(r.stderr, made.Base) || made.Base == "" {
			t.Errorf("%v without the base: %+v", args, r)
		}
	}
	old := write(t, t.TempDir(), "elsewhere.tflite", original["room"])
	done(t, "", "unpack", "--base", old, "--out", at("next.tflite"), at("next.pack"))
	if read(t, at("next.tflite")) != original["next"] {
		t.Error("the model does not come back with its base from elsewhere")
	}
}

// What cannot be packed or unpacked is said, and nothing is written.
func TestPackRefuses(t *testing.T) {
	dir := t.TempDir()
	text := write(t, dir, "text.tflite", "no model")
	hello := testkit.Shared(t, "models/hello_world_float.tflite")
	packed := filepath.Join(dir, "hello.pack")
	done(t, "", "pack", "--out", packed, hello)
	cut := write(t, dir, "cut.pack", read(t, packed)[:300])
	out := filepath.Join(dir, "out")
	for _, c := range []struct {
		args  []string
		code  int
		words string
	}{
		{[]string{"pack", "--out", out, text}, 3, "not a valid .tflite"},
		{[]string{"pack", "--out", out, "--base", text, hello}, 3, "text.tflite: not a valid .tflite"},
		{[]string{"pack", "--out", text, text}, 2, "--out is the model itself"},
		{[]string{"pack"}, 2, "pack takes MODEL"},
		{[]string{"unpack", "--out", out, hello}, 3, "not a valid packed model"},
		{[]string{"unpack", "--out", out, cut}, 3, "cut or damaged"},
		{[]string{"unpack", "--out", packed, packed}, 2, "--out is the model itself"},
		{[]string{"unpack", "--out", out, filepath.Join(dir, "none.pack")}, 3, "no such file"},
		{[]string{"model", "inspect", cut}, 3, "cut.pack: not a valid packed model"},
	} {
		if r := run(t, "", c.args...); r.code != c.code || !strings.Contains(r.stderr, c.words) {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("something was written")
	}
}

// Whoever compares models, or looks at one, is told how large they are packed:
// as large as the command pack makes them. Of large ones one has to ask.
func TestPackedSize(t *testing.T) {
	dir := t.TempDir()
	small := testkit.Shared(t, "models/kws_ref_model_float32.tflite")
	large := write(t, dir, "large.tflite", read(t, small)+strings.Repeat("\x00", 2<<20)) // quick to pack all the same
	want := map[string]int{}
	for _, path := range []string{small, large} {
		out := filepath.Join(dir, filepath.Base(path)+".pack")
		done(t, "", "pack", "--out", out, path)
		info, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		want[path] = int(info.Size())
	}
	evaluated := func(flags ...string) (of [2]int) {
		var list [2]struct{ Cost struct{ Packed int } }
		text := done(t, "", append([]string{"evaluate", "--no-latency", "--format", "json", small, large}, flags...)...)
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			t.Fatal(err)
		}
		return [2]int{list[0].Cost.Packed, list[1].Cost.Packed}
	}
	if got := evaluated(); got != [2]int{want[small], 0} {
		t.Errorf("%v, packed %v", got, want)
	}
	if got := evaluated("--packed"); got != [2]int{want[small], want[large]} {
		t.Errorf("%v, packed %v", got, want)
	}
	for path, head := range map[string]bool{small: true, large: false} {
		if said := done(t, "", "evaluate", "--no-latency", path); strings.Contains(said, "PACKED") != head {
			t.Error(said)
		}
	}
	for _, c := range []struct {
		args []string
		of   int
	}{{[]string{small}, want[small]}, {[]string{large}, 0}, {[]string{"--packed", large}, want[large]}} {
		said := done(t, "", append([]string{"model", "inspect"}, c.args...)...)
		if line := fmt.Sprintf("by the command pack it has %d bytes", c.of); strings.Contains(said, "by the command pack") != (c.of > 0) || c.of > 0 && !strings.Contains(said, line) {
			t.Errorf("%v: %q in\n%s", c.args, line, said)
		}
	}
	var r struct {
		Packed int `json:"packed_bytes"`
	}
	if err := json.Unmarshal([]byte(done(t, "", "model", "inspect", "--json", small)), &r); err != nil || r.Packed != want[small] {
		t.Errorf("%v, %d", err, r.Packed)
	}
}

// A base that has nothing to do with the model is left out, and that is said.
func TestPackByAnotherBase(t *testing.T) {
	dir := t.TempDir()
	out, model := filepath.Join(dir, "a.pack"), testkit.Shared(t, "models/hello_world_float.tflite")
	said := done(t, "", "pack", "--base", testkit.Shared(t, "models/kws_ref_model.tflite"), "--out", out, model)
	if !strings.Contains(said, "--base saves nothing") || strings.Contains(said, "SHA-256") {
		t.Error(said)
	}
	done(t, "", "unpack", "--out", filepath.Join(dir, "a.tflite"), out)
}

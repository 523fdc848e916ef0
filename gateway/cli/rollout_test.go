package cli_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgegateway/infer"
	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// golden writes a bundle of a model that takes one number, with what it is to
// say to 1.
func golden(t *testing.T, dir, version, model string, answer float32) string {
	t.Helper()
	data, err := os.ReadFile(testkit.Shared(t, "models/"+model+".tflite"))
	if err != nil {
		t.Fatal(err)
	}
	number := func(v float32) []byte { return binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)) }
	parts := map[string][]byte{"model.tflite": data, "in.bin": number(1), "out.bin": number(answer)}
	m := store.Manifest{
		Format: store.Format, Name: "sine", Version: version, Model: "model.tflite", Files: map[string]store.Part{},
		Golden: []store.Golden{{Inputs: []string{"in.bin"}, Outputs: []string{"out.bin"}, Tolerance: 0.05}},
	}
	for name, p := range parts {
		m.Files[name] = store.PartOf(p)
	}
	var b bytes.Buffer
	if err := store.WriteBundle(&b, m, parts, nil); err != nil {
		t.Fatal(err)
	}
	return write(t, dir, "sine-"+version+".bundle", b.String())
}

// A gateway tries a version in a child process before it serves it: one that
// gives its golden answers goes live with its report, one that does not is
// refused with the reason, and the one before serves without an error.
func TestVersionIsTriedFirst(t *testing.T) {
	dir, local := t.TempDir(), testkit.FreeAddr(t)
	data := filepath.Join(dir, "data")
	config := write(t, dir, "gateway.yaml", fmt.Sprintf(`
gateway: hall-7
data: %s
broker: {listeners: [{tcp: "%s"}]}
models: {sine: {file: %q, output: regression}}
streams: {s: {topics: [x/+], input: {json: [x], seq: n}, model: sine}}
rollout: {preflight: {eager: true}} # a busy machine lets nothing idle run
dashboard: {listen: ""}
`, data, local, testkit.Shared(t, "models/hello_world_float.tflite")))
	s := openStore(t, data)
	p := start(t, "run", "--config", config)
	p.Line(` ready `)
	ask := &asker{t: t}
	ask.connect(local)
	tried := func(version string) *store.Version {
		t.Helper()
		if err := s.Want("sine", store.Want{Version: version, Do: store.DoActivate, By: "test"}); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(2 * time.Minute); ; {
			ask.version() // the stream goes on
			st, err := s.State()
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%+v, %v", st.Models["sine"], err)
			}
			if m := st.Models["sine"]; m.Want == nil {
				return m.Find(version)
			}
		}
	}
	report := func(v *store.Version) (r infer.PreflightReport) {
		t.Helper()
		b, err := s.Report(*v)
		if err == nil {
			err = json.Unmarshal(b, &r)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for version, says := range map[string]float32{"2": 0.842, "3": -0.5} {
		if _, err := s.Add(t.Context(), "sine@"+version, golden(t, dir, version, "hello_world_float", says), "test"); err != nil {
			t.Fatal(err)
		}
	}
	good := tried("2")
	if r := report(good); good.Stage != store.Live || !r.OK || r.P50 <= 0 || r.Calls < 1000 || len(r.Candidates) < 2 {
		t.Fatalf("%+v with %+v", good, r)
	}
	if v := ask.version(); v != "2" {
		t.Errorf("version %q answers", v)
	}
	bad := tried("3")
	if r := report(bad); bad.Stage != store.Failed || r.OK || !strings.Contains(bad.Why, infer.CheckGolden) || bad.Why != r.Why {
		t.Errorf("%+v with %+v", bad, r)
	}
	if v := ask.version(); v != "2" {
		t.Errorf("version %q answers", v)
	}
}

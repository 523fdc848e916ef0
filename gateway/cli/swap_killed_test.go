package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// The gateway is killed while it exchanges versions: as soon as one is wanted,
// at the first answer of the new one, when it is live. It comes back with the
// old one or the new one, and ends with the one that is wanted.
func TestGatewayKilledAtSwap(t *testing.T) {
	dir, local := t.TempDir(), testkit.FreeAddr(t)
	model, err := os.ReadFile(testkit.Shared(t, "models/hello_world_float.tflite"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "sine.tflite", string(model))
	data := filepath.Join(dir, "data")
	config := write(t, dir, "gateway.yaml", fmt.Sprintf(`
gateway: hall-7
data: %s
broker: {listeners: [{tcp: "%s"}]}
infer: {delegate: builtin}
models: {sine: {file: sine.tflite, output: regression}}
streams: {s: {topics: [x/+], input: {json: [x], seq: n}, model: sine}}
rollout: {watch: 0s}
dashboard: {listen: ""}
`, data, local))
	s := openStore(t, data)
	if _, err := s.Add(t.Context(), "sine@1", testkit.Shared(t, "models/hello_world_int8.tflite"), "test"); err != nil {
		t.Fatal(err)
	}
	state := func() *store.ModelState { return stateOf(t, s, "sine") }
	ask := &asker{t: t}
	begin := func() *testkit.Process {
		t.Helper()
		p := start(t, "run", "--config", config)
		p.Line(` ready `)
		ask.connect(local)
		return p
	}
	settled := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); state().Want != nil || ask.version() != want; {
			if time.Now().After(deadline) {
				t.Fatalf("version %s does not go live: %+v", want, state())
			}
		}
	}
	p := begin()
	if v := ask.version(); v != "" {
		t.Errorf("version %q answers before there is one", v)
	}
	if err := s.Want("sine", store.Want{Version: "1", Do: store.DoActivate, Force: true, By: "test"}); err != nil {
		t.Fatal(err)
	}
	settled("1")
	live := 1
	for round := range 6 {
		wanted := fmt.Sprint(1 - live)
		if err := s.Want("sine", store.Want{Do: store.DoRollback, By: "test"}); err != nil {
			t.Fatal(err)
		}
		switch round % 3 {
		case 1:
			for ask.version() != wanted {
			}
		case 2:
			settled(wanted)
		}
		p.Kill()
		if m := state(); m.Live != "0" && m.Live != "1" || m.Live != wanted && (m.Want == nil || m.Want.Version != wanted) {
			t.Fatalf("after the kill %+v", m)
		}
		p = begin()
		if v := ask.version(); v != "0" && v != "1" {
			t.Errorf("after the kill version %q answers", v)
		}
		settled(wanted)
		live = 1 - live
	}
}

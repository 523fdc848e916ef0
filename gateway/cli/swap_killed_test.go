package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"edgegateway/infer/store"
	"edgegateway/internal/link"
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
	s, err := store.Open(store.Dir(data), store.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Add(t.Context(), "sine@1", testkit.Shared(t, "models/hello_world_int8.tflite"), "test"); err != nil {
		t.Fatal(err)
	}
	state := func() *store.ModelState {
		t.Helper()
		st, err := s.State()
		if err != nil {
			t.Fatal(err)
		}
		return st.Models["sine"]
	}
	seq := 0
	var conn *link.Conn
	var msgs *inbox
	answer := func() string {
		t.Helper()
		seq++
		if err := conn.Publish(t.Context(), link.Msg{Topic: "x/a", Payload: fmt.Appendf(nil, `{"x":1,"n":%d}`, seq), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		var r struct {
			Seq     int
			Version string
		}
		if m := msgs.next(); json.Unmarshal(m.Payload, &r) != nil || r.Seq != seq {
			t.Fatalf("%s is not the result of message %d", m.Payload, seq)
		}
		return r.Version
	}
	begin := func() *testkit.Process {
		t.Helper()
		p := start(t, "run", "--config", config)
		p.Line(` ready `)
		if conn, err = link.Connect(t.Context(), link.Config{URL: "tcp://" + local, ClientID: "watcher"}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		msgs = newInbox(t, conn, "results/#")
		return p
	}
	settled := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); state().Want != nil || answer() != want; {
			if time.Now().After(deadline) {
				t.Fatalf("version %s does not go live: %+v", want, state())
			}
		}
	}
	p := begin()
	if v := answer(); v != "" {
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
			for answer() != wanted {
			}
		case 2:
			settled(wanted)
		}
		p.Kill()
		if m := state(); m.Live != "0" && m.Live != "1" || m.Live != wanted && (m.Want == nil || m.Want.Version != wanted) {
			t.Fatalf("after the kill %+v", m)
		}
		p = begin()
		if v := answer(); v != "0" && v != "1" {
			t.Errorf("after the kill version %q answers", v)
		}
		settled(wanted)
		live = 1 - live
	}
}

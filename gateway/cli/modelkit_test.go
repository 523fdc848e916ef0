package cli_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"edgegateway/infer/store"
	"edgegateway/internal/link"
)

// openStore opens the store of a gateway's data folder.
func openStore(t *testing.T, data string) *store.Store {
	t.Helper()
	s, err := store.Open(store.Dir(data), store.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// stateOf is what a store has of a model now, nil where it has none.
func stateOf(t *testing.T, s *store.Store, model string) *store.ModelState {
	t.Helper()
	st, err := s.State()
	if err != nil {
		t.Fatal(err)
	}
	return st.Models[model]
}

// asker publishes readings {"x": 1, "n": number} to x/a, one at a time, and looks
// at what a stream with seq: n answers.
type asker struct {
	t    *testing.T
	conn *link.Conn
	msgs *inbox
	seq  int
}

// connect asks the gateway that listens at addr from now on.
func (a *asker) connect(addr string) {
	a.t.Helper()
	conn, err := link.Connect(a.t.Context(), link.Config{URL: "tcp://" + addr, ClientID: "watcher"})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(conn.Close)
	a.conn, a.msgs = conn, newInbox(a.t, conn, "results/#")
}

// version is that of the next answer.
func (a *asker) version() string {
	a.t.Helper()
	a.seq++
	if err := a.conn.Publish(a.t.Context(), link.Msg{Topic: "x/a", Payload: fmt.Appendf(nil, `{"x":1,"n":%d}`, a.seq), QoS: 1}); err != nil {
		a.t.Fatal(err)
	}
	var r struct {
		Seq     int
		Version string
	}
	if m := a.msgs.next(); json.Unmarshal(m.Payload, &r) != nil || r.Seq != a.seq {
		a.t.Fatalf("%s is not the result of message %d", m.Payload, a.seq)
	}
	return r.Version
}

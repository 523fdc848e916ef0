package cli_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"edgegateway/gateway/alert"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// The gateway is killed the moment somebody heard of an alert, again and
// again: each time it comes back with what was said, retained and under the
// same id, and ends what it began.
func TestGatewayKilledAtAlert(t *testing.T) {
	dir, local := t.TempDir(), testkit.FreeAddr(t)
	config := write(t, dir, "gateway.yaml", fmt.Sprintf(`
gateway: hall-7
data: %s
broker: {listeners: [{tcp: "%s"}]}
streams:
  rows: {topics: [rows/+], input: {json: [v]}}
alerts:
  hot: {stream: rows, when: v > 10, clear: v < 5}
dashboard: {listen: ""}
`, filepath.Join(dir, "data"), local))
	watch := func(id string) (*link.Conn, *inbox) {
		t.Helper()
		conn, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + local, ClientID: id})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		return conn, newInbox(t, conn, "alerts/#")
	}
	begin := func() (p *testkit.Process, conn *link.Conn, msgs *inbox) {
		t.Helper()
		p = start(t, "run", "--config", config)
		p.Line(` ready `)
		conn, msgs = watch("watcher")
		return p, conn, msgs
	}
	said := func(msgs *inbox, state string) (e alert.Event) {
		t.Helper()
		m := msgs.next()
		if err := json.Unmarshal(m.Payload, &e); err != nil || e.State != state || m.Topic != "alerts/hot/a" {
			t.Fatalf("%s %s, %v; want %s", m.Topic, m.Payload, err, state)
		}
		return e
	}
	reading := func(conn *link.Conn, v int) {
		t.Helper()
		if err := conn.Publish(t.Context(), link.Msg{Topic: "rows/a", Payload: fmt.Appendf(nil, `{"v":%d}`, v), QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	p, conn, msgs := begin()
	for range 3 {
		reading(conn, 11)
		raised := said(msgs, alert.Raised)
		p.Kill()
		p, conn, msgs = begin()
		if again := said(msgs, alert.Raised); again.ID != raised.ID || !again.Time.Equal(raised.Time) {
			t.Errorf("after the kill %+v, before %+v", again, raised)
		}
		_, late := watch("late")
		if m := late.next(); !m.Retain {
			t.Errorf("not retained after the kill: %s", m.Payload)
		}
		reading(conn, 1)
		cleared := said(msgs, alert.Cleared)
		if cleared.ID != raised.ID {
			t.Errorf("cleared is %s, raised was %s", cleared.ID, raised.ID)
		}
		p.Kill()
		p, conn, msgs = begin()
		if again := said(msgs, alert.Cleared); again.ID != raised.ID || !again.Time.Equal(cleared.Time) {
			t.Errorf("after the kill %+v, before %+v", again, cleared)
		}
	}
}

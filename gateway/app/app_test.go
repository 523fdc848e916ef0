package app

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/gateway/alert"
	"edgegateway/internal/link"
)

// room is a stream of readings with a rule.
const room = `
streams:
  room: {topics: [room/+/climate], input: {json: [v], seq: n}}
alerts:
  hot: {stream: room, when: v > 10, for: 2 of 2, publish: [{topic: "fan/{{.Source}}/set", payload: "{{.State}}", on: [raised, cleared]}]}
`

func cloudOf(url string) string {
	return fmt.Sprintf("upstream: {cloud: {url: %q, send: [alerts, results], retry_min: 10ms, retry_max: 50ms}}\n", url)
}

// A reading of a real client becomes a result and an alert, here and at a
// second gateway that is the cloud; the alert's state is retained at both.
func TestReadingToCloud(t *testing.T) {
	cloud := begin(t, t.TempDir(), "cloud", "")
	up := cloud.subscribe("gateways/#")
	g := begin(t, t.TempDir(), "edge", room+cloudOf(cloud.url))
	here := g.subscribe("results/#", "alerts/#", "fan/#")
	publish(t, g.client("sensor"), "room/hall/climate", `{"v":11,"n":7}`, `{"v":12,"n":8}`, `{"v":1,"n":9}`)
	for _, in := range []struct {
		box    *inbox
		prefix string
	}{{here, ""}, {up, "gateways/edge/"}} {
		r := decode[result](t, in.box.on(in.prefix+"results/room/hall", `"seq":8`).Payload)
		if r.ID != "room/hall/1-8" || r.Features["v"] != 12 || r.Stream != "room" || r.Source != "hall" {
			t.Errorf("%+v", r)
		}
		raised := decode[alert.Event](t, in.box.on(in.prefix+"alerts/hot/hall", `"raised"`).Payload)
		cleared := decode[alert.Event](t, in.box.on(in.prefix+"alerts/hot/hall", `"cleared"`).Payload)
		if raised.ID == "" || raised.ID != cleared.ID || decode[result](t, raised.Result).Seq != 8 || decode[result](t, cleared.Result).Seq != 9 {
			t.Errorf("%+v, %+v", raised, cleared)
		}
	}
	here.on("fan/hall/set", "raised")
	here.on("fan/hall/set", "cleared")
	for _, late := range []*inbox{g.subscribe("alerts/#"), cloud.subscribe("gateways/edge/alerts/#")} {
		if m := late.wait("the retained state", func(link.Msg) bool { return true }); !m.Retain || !strings.Contains(string(m.Payload), `"cleared"`) {
			t.Errorf("%s %v %s", m.Topic, m.Retain, m.Payload)
		}
	}
	if s := up.on("gateways/edge/status", "").Payload; !strings.Contains(string(s), "online") && !strings.Contains(string(s), "true") {
		t.Errorf("birth: %s", s)
	}
}

// What is raised is retained again after a restart, and stays raised under
// its id; ids of results are never given twice.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	g := begin(t, dir, "edge", room)
	here := g.subscribe("alerts/#", "results/#")
	publish(t, g.client("sensor"), "room/hall/climate", `{"v":11,"n":1}`, `{"v":12,"n":2}`)
	first := decode[alert.Event](t, here.on("alerts/hot/hall", `"raised"`).Payload)
	g.stop()
	g = begin(t, dir, "edge", room)
	here = g.subscribe("alerts/#", "results/#")
	m := here.on("alerts/hot/hall", `"raised"`)
	again := decode[alert.Event](t, m.Payload)
	if again.ID != first.ID || !again.Time.Equal(first.Time) {
		t.Errorf("%+v, before %+v", again, first)
	}
	publish(t, g.client("sensor"), "room/hall/climate", `{"v":1,"n":2}`)
	if r := decode[result](t, here.on("results/room/hall", `"seq":2`).Payload); r.ID != "room/hall/2-2" {
		t.Errorf("%+v", r)
	}
	if cleared := decode[alert.Event](t, here.on("alerts/hot/hall", `"cleared"`).Payload); cleared.ID != first.ID {
		t.Errorf("%+v", cleared)
	}
}

// A second gateway in the same folder is told who is there, and a failed
// start leaves nothing behind that hinders the next.
func TestSecondInstance(t *testing.T) {
	dir := t.TempDir()
	g := begin(t, dir, "hall-7", room)
	cfg, err := LoadConfig(g.file)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Gateway = "other"
	if _, err := New(cfg, nil, nil, zerolog.Nop(), prometheus.NewRegistry()); err == nil ||
		!strings.Contains(err.Error(), `gateway "hall-7", process`) || !strings.Contains(err.Error(), filepath.Join(dir, "hall-7")) {
		t.Errorf("%v", err)
	}
	g.stop()
	broken := cfg
	broken.Dashboard.Listen = "127.0.0.1:99999"
	if _, err := New(broken, nil, nil, zerolog.Nop(), prometheus.NewRegistry()); err == nil {
		t.Fatal("a port that is none")
	}
	a, err := New(cfg, nil, nil, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return resp.StatusCode, string(b)
}

func TestMetricsAndHealth(t *testing.T) {
	cloud := begin(t, t.TempDir(), "cloud", "")
	g := begin(t, t.TempDir(), "edge", room+cloudOf(cloud.url))
	here := g.subscribe("results/#")
	publish(t, g.client("sensor"), "room/hall/climate", `{"v":1,"n":1}`, `{`, `{"v":"x"}`)
	here.on("results/room/hall", "")
	base := "http://" + g.DashboardAddr()
	until(t, "two drops", func() bool { d := g.pipe.Status()[0].Drops; return d["bad_json"]+d["not_a_number"] == 2 })
	until(t, "readiness", g.Ready)
	_, metrics := get(t, base+"/metrics")
	for _, want := range []string{
		`edgegateway_pipeline_messages_total{stream="room"} 3`, `edgegateway_pipeline_results_total{stream="room"} 1`,
		`edgegateway_pipeline_dropped_total{reason="bad_json",stream="room"} 1`, `edgegateway_pipeline_dropped_total{reason="not_a_number",stream="room"} 1`,
		`upstream="cloud"`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}
	if code, body := get(t, base+"/readyz"); code != http.StatusOK || body != "{\"ready\":true}\n" {
		t.Errorf("%d %s", code, body)
	}
	if code, body := get(t, base+"/healthz"); code != http.StatusOK || !strings.Contains(body, `{"part":"broker","ok":true}`) || !strings.Contains(body, "upstream cloud") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := get(t, base+"/api/status"); code != http.StatusOK || !strings.Contains(body, `"gateway":"edge"`) || !strings.Contains(body, `"in":3`) {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := get(t, base+"/nothing"); code != http.StatusNotFound {
		t.Errorf("%d", code)
	}
}

package cli_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"edgegateway/internal/testkit"
)

// metricsOf reads a gateway's metrics: samples by name and labels.
func metricsOf(t *testing.T, web string) map[string]string {
	t.Helper()
	resp, err := http.Get("http://" + web + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp.Status, err)
	}
	m := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if at := strings.LastIndex(line, " "); strings.HasPrefix(line, "edgegateway_") {
			m[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return m
}

// A gateway that nobody has used yet shows all that it counts, at 0: the
// table of the documents, to the label, and the reasons that they list.
func TestMetrics(t *testing.T) {
	_, broker, web := gateway(t, `, anonymous: {publish: [x, room/+], subscribe: [results/#]}}
models: {sine: {file: `+testkit.Shared(t, "models/hello_world_float.tflite")+`, output: regression}}
infer: {delegate: builtin}
rollout: {models: {sine: {shadow: {}}}}
streams:
  sine: {topics: [x], input: {json: [x]}, model: sine, record: {}}
  room: {topics: [room/+], input: {json: [co2]}, drift: {}}
alerts: {stale: {stream: room, when: co2 > 1000, publish: [{topic: lamp, payload: "on"}]}}
upstream: {cloud: {url: "tcp://`+testkit.FreeAddr(t)+`", send: [alerts, results]}}`)
	got := metricsOf(t, web)
	docs, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string][]string{} // labels by name
	for _, m := range regexp.MustCompile("(?m)^\\| `(edgegateway_\\w+)(?:\\{(.*)\\})?` \\|").FindAllSubmatch(docs, -1) {
		table[string(m[1])] = slices.Sorted(strings.SplitSeq(string(m[2]), ","))
	}
	seen := map[string]bool{}
	label := regexp.MustCompile(`(\w+)="[^"]*"`)
	histogram := regexp.MustCompile(`_(bucket|sum|count)$`)
	for sample, value := range got {
		name, labels, _ := strings.Cut(sample, "{")
		var has []string
		for _, m := range label.FindAllStringSubmatch(labels, -1) {
			if m[1] != "le" {
				has = append(has, m[1])
			}
		}
		name = histogram.ReplaceAllString(name, "")
		if want := strings.Join(table[name], ","); want != strings.Join(has, ",") {
			t.Errorf("docs/metrics.md names the labels of %s as %q", sample, want)
		}
		seen[name] = true
		if one := []string{"edgegateway_build_info", "edgegateway_config_reload_success"}; slices.Contains(one, name) != (value == "1") {
			if name != "edgegateway_upstream_failures_total" || value == "" { // the cloud is away
				t.Errorf("%s is %s at the start", sample, value)
			}
		}
	}
	for name := range table {
		if !seen[name] {
			t.Errorf("%s of docs/metrics.md is not there", name)
		}
	}
	if build := `edgegateway_build_info{goarch="` + runtime.GOARCH + `",goos="` + runtime.GOOS + `",goversion="` + runtime.Version() + `",version="v0-test"}`; got[build] != "1" {
		t.Errorf("no %s", build)
	}
	streams, err := os.ReadFile("../../docs/streams.md")
	if err != nil {
		t.Fatal(err)
	}
	_, reasons, _ := bytes.Cut(streams, []byte("| reason | what happened |"))
	reasons, _, _ = bytes.Cut(reasons, []byte("\n\n"))
	n := 0
	for line := range strings.Lines(string(reasons)) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(first, -1) {
			n++
			if key := `edgegateway_pipeline_dropped_total{reason="` + m[1] + `",stream="room"}`; got[key] != "0" {
				t.Errorf("%s is %q", key, got[key])
			}
		}
	}
	all := 0
	for sample := range got {
		if strings.HasPrefix(sample, "edgegateway_pipeline_dropped_total") && strings.Contains(sample, `stream="room"`) {
			all++
		}
	}
	if n == 0 || n != all {
		t.Errorf("docs/streams.md tells %d reasons, there are %d", n, all)
	}

	// What happens then counts.
	run(t, "", "publish", "--broker", broker, "secret/door", "x")
	run(t, "", "sub", "--broker", broker, "secret/#")
	for _, co2 := range []string{"1200", "nothing"} {
		done(t, "", "publish", "--broker", broker, "room/a", `{"co2": `+co2+`}`)
	}
	in := watching(t, broker, "results/#")
	done(t, "", "publish", "--broker", broker, "x", `{"x": 1}`)
	in.next()
	done(t, "", "publish", "--broker", broker, "room/b", `{"co2": 1500}`)
	in.next()
	want := map[string]string{
		`edgegateway_broker_refused_total{reason="publish"}`:                                     "1",
		`edgegateway_broker_refused_total{reason="subscribe"}`:                                   "1",
		`edgegateway_pipeline_dropped_total{reason="bad_json",stream="room"}`:                    "1",
		`edgegateway_pipeline_messages_total{stream="room"}`:                                     "3",
		`edgegateway_pipeline_results_total{stream="room"}`:                                      "2",
		`edgegateway_infer_result_seconds_count{model="sine"}`:                                   "1",
		`edgegateway_infer_result_seconds_bucket{model="sine",le="8.589934592"}`:                 "1",
		`edgegateway_broker_clients`:                                                             "1",
		`edgegateway_alert_raised{alert="stale"}`:                                                "2",
		`edgegateway_alert_events_total{alert="stale",state="raised"}`:                           "2",
		`edgegateway_alert_outputs_failed_total{alert="stale",output="publish",reason="failed"}`: "0",
		`edgegateway_upstream_queued{class="alerts",upstream="cloud"}`:                           "2",
	}
	var wrong []string
	for late := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // alerts are told a little later
		wrong, got = nil, metricsOf(t, web)
		for key, value := range want {
			if got[key] != value {
				wrong = append(wrong, key+" is "+got[key]+", want "+value)
			}
		}
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(late) {
			t.Fatal(strings.Join(wrong, "\n"))
		}
	}
}

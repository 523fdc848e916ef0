package app

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// The picture that raised an alert lies beside it, here and at the cloud,
// retained; a link that does not take pictures so long gets the alert alone,
// and the picture is counted.
func TestPictureToCloud(t *testing.T) {
	cloud := begin(t, t.TempDir(), "cloud", "")
	up := cloud.subscribe("gateways/#", "small/#")
	g := begin(t, t.TempDir(), "edge", fmt.Sprintf(`
models:
  person: {file: %q, output: classes, label_list: [nobody, person]}
streams:
  yard: {topics: [camera/+], input: {image: auto}, model: person}
alerts:
  somebody: {stream: yard, when: score >= 0, clear: 1h}
upstream:
  cloud: {url: %q, retry_min: 10ms, retry_max: 50ms}
  pager: {url: %[2]q, retry_min: 10ms, retry_max: 50ms, prefix: "small/{gateway}", send: [alerts], max_payload_bytes: 4000}
`, testkit.Shared(t, "models/vww_96_int8.tflite"), cloud.url))
	here := g.subscribe("alerts/#")
	picture, err := os.ReadFile(testkit.Shared(t, "data/person.bmp"))
	if err != nil || len(picture) <= 4000 {
		t.Fatal(len(picture), err)
	}
	sensor := g.client("camera")
	publish(t, sensor, "camera/gate", string(picture))
	for _, in := range []struct {
		box   *inbox
		topic string
	}{{here, "alerts/somebody/gate"}, {up, "gateways/edge/alerts/somebody/gate"}} {
		in.box.on(in.topic, `"raised"`)
		if got := in.box.on(in.topic+"/picture", "").Payload; !bytes.Equal(got, picture) {
			t.Errorf("%s/picture has %d bytes, the picture %d", in.topic, len(got), len(picture))
		}
	}
	late := cloud.subscribe("gateways/edge/alerts/somebody/gate/picture")
	if m := late.wait("the retained picture", func(link.Msg) bool { return true }); !m.Retain || !bytes.Equal(m.Payload, picture) {
		t.Errorf("%d bytes, retained %v", len(m.Payload), m.Retain)
	}
	up.on("small/edge/alerts/somebody/gate", `"raised"`)
	const counted = `edgegateway_upstream_dropped_total{class="alerts",reason="size",stream="yard",upstream="pager"} 1`
	until(t, "the picture's drop is counted", func() bool {
		_, metrics := get(t, "http://"+g.DashboardAddr()+"/metrics")
		return strings.Contains(metrics, counted)
	})
	for _, m := range up.all() {
		if strings.HasPrefix(m.Topic, "small/") && strings.HasSuffix(m.Topic, "/picture") {
			t.Errorf("%s came with %d bytes", m.Topic, len(m.Payload))
		}
	}
}

package app

import (
	"strings"
	"testing"

	"edgegateway/gateway/dataset"
	"edgegateway/internal/link"
)

// A reload changes what is recorded and what labels it; labels that were set
// stay, and the commands of the cloud reach the recorder.
func TestRecordReload(t *testing.T) {
	dir := t.TempDir()
	g := begin(t, dir, "edge", `
streams:
  press: {topics: [press/+], input: {json: [x]}, record: {every: "2", label: {topic: first}}}
`)
	c := g.client("sensor")
	labels := func() (list []string) {
		if _, err := dataset.Each(dataset.Dir(g.data.dir, "press"), func(_ dataset.Header, s dataset.Sample) error {
			list = append(list, s.Label)
			return nil
		}); err != nil {
			return nil
		}
		return list
	}
	are := func(want string) {
		t.Helper()
		until(t, want, func() bool { return strings.Join(labels(), " ") == want })
	}
	publish(t, c, "first", "one")
	publish(t, c, "press/a", `{"x":1}`, `{"x":2}`, `{"x":3}`)
	are("one one")
	g.change(`every: "2", label: {topic: first}`, `label: {topic: second}`)
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	publish(t, c, "first", "none")
	publish(t, c, "press/a", `{"x":4}`)
	are("one one one")
	publish(t, c, "second", "two")
	publish(t, c, "press/a", `{"x":5}`)
	are("one one one two")
	if b, err := g.command(t.Context(), "dataset/label", []byte(`{"id":1,"stream":"press","label":"cloud"}`)); err != nil || !strings.Contains(string(b), "cloud") {
		t.Errorf("%s %v", b, err)
	}
	if _, err := g.command(t.Context(), "dataset/label", []byte(`{"stream":"pres","label":"cloud"}`)); err == nil || !strings.Contains(err.Error(), "press") {
		t.Errorf("a stream that is not there: %v", err)
	}
	publish(t, c, "press/a", `{"x":6}`)
	are("one one one two cloud")
	replies := g.subscribe("datasets/press/label/reply")
	if err := c.Publish(t.Context(), link.Msg{Topic: "datasets/press/label", Payload: []byte(`{"for":"soon"}`), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	replies.on("datasets/press/label/reply", "no time")
	until(t, "five samples in the list", func() bool { // they are on the disk before they are counted
		list := decode[[]dataset.Status](t, must(g.command(t.Context(), "dataset/list", nil)))
		return len(list) == 1 && list[0].Samples == 5 && list[0].Recorded == 5
	})
	g.change(`label: {topic: second}`, `label: {rule: "x > 0"}`)
	if err := g.Reload(); err == nil || !strings.Contains(err.Error(), "streams.press.record.label.rule") {
		t.Errorf("a rule that is no text: %v", err)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

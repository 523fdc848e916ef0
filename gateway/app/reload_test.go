package app

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// sine is a stream with a model, one without, and a rule.
func sine(t *testing.T) string {
	return fmt.Sprintf(`
models:
  sine: {file: %s, output: regression}
streams:
  sine: {topics: [x/+], input: {json: [x], seq: n}, model: sine}
  plain: {topics: [p/+], input: {json: [x], seq: n}}
alerts:
  high: {stream: plain, when: x > 1000000}
`, testkit.Shared(t, "models/hello_world_float.tflite"))
}

// While four clients publish, the configuration is changed again and again: a
// stream, its model, a rule. Every message becomes one result, in order.
func TestReloadLosesNothing(t *testing.T) {
	cloud := begin(t, t.TempDir(), "cloud", "")
	up := cloud.tapped("gateways/edge/results/#")
	g := begin(t, t.TempDir(), "edge", sine(t)+cloudOf(cloud.url))
	const each = 1500
	topics := []string{"x/a", "x/b", "p/a", "p/b"}
	var clients sync.WaitGroup
	for _, topic := range topics {
		c := g.client(topic)
		clients.Go(func() {
			msgs := make([]link.Msg, each)
			for n := range msgs {
				msgs[n] = link.Msg{Topic: topic, Payload: fmt.Appendf(nil, `{"x":%d,"n":%d}`, n%6, n+1), QoS: 1}
			}
			if n, err := c.Window(context.Background(), msgs); err != nil {
				t.Errorf("%s: %d acknowledged: %v", topic, n, err)
			}
		})
	}
	done := make(chan struct{})
	go func() { defer close(done); clients.Wait() }()
	reloads := 0
	for going := true; going || reloads < 6; reloads++ {
		select {
		case <-done:
			going = false
		default:
		}
		switch reloads % 3 {
		case 0: // a stream
			g.change("topics: [x/+]", "queue: 100, topics: [x/+]", "queue: 100, topics: [x/+]", "topics: [x/+]")
		case 1: // its model
			g.change("output: regression", "output: raw", "output: raw", "output: regression")
		case 2: // the other stream, and the rule over it
			g.change("topics: [p/+]", "queue: 100, topics: [p/+]", "queue: 100, topics: [p/+]", "topics: [p/+]", "1000000", "2000000", "2000000", "1000000")
		}
		if err := g.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d reloads", reloads)
	until(t, "all results", func() bool { return up.len() >= len(topics)*each })
	next := map[string]uint64{}
	ids := map[string]bool{}
	for _, m := range up.all() {
		r := decode[result](t, m.Payload)
		if next[m.Topic]++; r.Seq != next[m.Topic] || ids[r.ID] {
			t.Fatalf("%s: %s after %d", m.Topic, m.Payload, next[m.Topic]-1)
		}
		ids[r.ID] = true
	}
	for _, s := range g.pipe.Status() {
		if len(s.Drops) > 0 {
			t.Errorf("%+v", s)
		}
	}
}

// What cannot be is refused whole: the words say why, and the old
// configuration goes on as it was, its models too.
func TestReloadRefused(t *testing.T) {
	g := begin(t, t.TempDir(), "edge", sine(t))
	here := g.subscribe("results/#")
	c := g.client("sensor")
	seq := 0
	state := func() string {
		s := g.Status().(Status)
		s.Reload = nil // that it was refused is told, and is no change
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for n, r := range []struct {
		change []string
		want   string
	}{
		{[]string{"streams:", "streasm:"}, `did you mean "streams"?`},
		{[]string{"x > 1000000", "y > 5"}, "alerts.high.when: "},
		{[]string{"model: sine}", "model: sinus}"}, `streams.sine.model: there is no model "sinus"; did you mean "sine"?`},
		{[]string{"hello_world_float", "hello_world_none", "x > 1000000", "x > 5"}, "models.sine.file: "},
		{[]string{"gateway: edge", "gateway: other"}, "gateway: cannot change"},
		{[]string{"tcp: \"127.0.0.1:0\"", "tcp: \"127.0.0.1:1\""}, "broker.listeners: cannot change"},
		{[]string{"listen: \"127.0.0.1:0\"", "listen: \"\""}, "dashboard: cannot change"},
		{[]string{"limits: {", "limits: {inflight: 7, ", "output: regression", "output: raw", "queue: 100, topics: [p/+]", "topics: [p/+]"}, "broker.limits.inflight: "},
	} {
		before := state()
		g.change(r.change...)
		err := g.Reload()
		if err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%v: %v, want %s", r.change, err, r.want)
		}
		if after := state(); before != after {
			t.Errorf("%v: now %s, before %s", r.change, after, before)
		}
		if last := g.Status().(Status).Reload; last == nil || last.Count != n+1 || last.Error != err.Error() {
			t.Errorf("%v: told as %+v", r.change, last)
		}
		if strings.Count(g.log.String(), "configuration not reloaded") != n+1 {
			t.Errorf("%v: not in the log", r.change)
		}
		back := make([]string, 0, len(r.change))
		for i := 0; i < len(r.change); i += 2 {
			back = append(back, r.change[i+1], r.change[i])
		}
		g.change(back...)
		seq++
		publish(t, c, "x/a", fmt.Sprintf(`{"x":1,"n":%d}`, seq))
		got := decode[result](t, here.on("results/sine/a", fmt.Sprintf(`"seq":%d,`, seq)).Payload)
		if got.ID != fmt.Sprintf("sine/a/2-%d", seq) || len(got.Values) != 1 {
			t.Errorf("%v: %+v", r.change, got)
		}
	}
}

// The cloud's commands: status, reload and the list of models.
func TestCommands(t *testing.T) {
	cloud := begin(t, t.TempDir(), "cloud", "")
	g := begin(t, t.TempDir(), "edge", sine(t)+cloudOf(cloud.url))
	up := cloud.subscribe("gateways/edge/replies/#", "gateways/edge/status")
	up.on("gateways/edge/status", "")
	c := cloud.client("operator")
	ask := func(command, id string) string {
		publish(t, c, "gateways/edge/commands/"+command, `{"id":"`+id+`"}`)
		return string(up.on("gateways/edge/replies/"+command, `"`+id+`"`).Payload)
	}
	if s := ask("status", "1"); !strings.Contains(s, `"ok":true`) || !strings.Contains(s, `"stream":"plain"`) {
		t.Error(s)
	}
	if s := ask("model/list", "2"); !strings.Contains(s, `"name":"sine"`) || !strings.Contains(s, `"delegate":"builtin"`) {
		t.Error(s)
	}
	g.change("results/{stream}", "", "topics: [p/+]", "topics: [p/+, q/+]")
	if s := ask("reload", "3"); !strings.Contains(s, `{"reloaded":true}`) {
		t.Error(s)
	}
	here := g.subscribe("results/#")
	publish(t, g.client("sensor"), "q/new", `{"x":1,"n":1}`)
	here.on("results/plain/new", "")
	g.change("streams:", "streasm:")
	if s := ask("reload", "4"); !strings.Contains(s, `"ok":false`) || !strings.Contains(s, "did you mean") {
		t.Error(s)
	}
	if s := ask("dance", "5"); !strings.Contains(s, `"ok":false`) || !strings.Contains(s, "model/list, model/promote, model/rm, ") {
		t.Error(s)
	}
}

package app

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/infer"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// Every answer is the answer to its own input: 16 publishers send 8 distinct
// inputs in bursts of 200 to two streams on one model, 100,000 messages in
// all, and each result is compared with what the model says to that input
// when it is asked alone. The model is the smallest one, so that messages
// overtake each other wherever they can.
func TestAnswersBelongToTheirInput(t *testing.T) {
	total := 100_000
	if raced {
		total = 9_600
	}
	const publishers, burst, inputs = 16, 200, 8
	file := testkit.Shared(t, "models/hello_world_float.tflite")
	// A model of its own, asked alone, is the oracle.
	engine, err := infer.New(infer.Config{Delegate: "builtin", Workers: 1}, map[string]infer.ModelConfig{"m": {File: file, Output: "raw"}}, t.TempDir(), nil, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	m, err := engine.Model("m")
	if err != nil {
		t.Fatal(err)
	}
	payloads := make([][]byte, inputs)
	answers := make([][]float64, inputs)
	for i := range payloads {
		payloads[i] = binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(i)*0.75))
		var r infer.Result
		if err := m.Run(t.Context(), func(in []infer.Tensor) error { return in[0].SetBytes(payloads[i]) }, &r); err != nil {
			t.Fatal(err)
		}
		answers[i] = append([]float64(nil), r.Values...)
		for k := range i {
			if cmp.Equal(answers[i], answers[k]) {
				t.Fatalf("inputs %d and %d have the same answer", k, i)
			}
		}
	}
	cloud := begin(t, t.TempDir(), "cloud", "")
	count := &tally{answers: answers, got: map[string]int{}}
	if _, err := cloud.broker.Tap([]string{"gateways/edge/results/#"}, count.look); err != nil {
		t.Fatal(err)
	}
	g := begin(t, t.TempDir(), "edge", cloudOf(cloud.url)+fmt.Sprintf(`
models: {m: {file: %s, output: raw}}
streams:
  floats: {topics: [f/+/+], input: {raw: f32le}, model: m, results: {topic: "r/{source}"}}
  bytes: {topics: [b/+/+], input: {raw: tensor}, model: m, results: {topic: "r/{source}"}}
`, file))
	var all sync.WaitGroup
	for p := range publishers {
		c := g.client(fmt.Sprint("p", p))
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(p), 3))
			for n := 0; n < total/publishers; n += burst {
				msgs := make([]link.Msg, min(burst, total/publishers-n))
				for i := range msgs {
					which := rnd.IntN(inputs)
					msgs[i] = link.Msg{Topic: fmt.Sprintf("%s/%d/%d", []string{"f", "b"}[i%2], p, which), Payload: payloads[which], QoS: 1}
				}
				if n, err := c.Window(context.Background(), msgs); err != nil {
					t.Errorf("%d acknowledged: %v", n, err)
					return
				}
			}
		})
	}
	all.Wait()
	until(t, "all results", func() bool { return count.all() >= total })
	count.mu.Lock()
	defer count.mu.Unlock()
	if count.wrong != "" {
		t.Error(count.wrong)
	}
	if count.got["floats"] != total/2 || count.got["bytes"] != total/2 {
		t.Errorf("results: %v, want %d", count.got, total)
	}
	for _, s := range g.pipe.Status() {
		if len(s.Drops) > 0 {
			t.Errorf("%+v", s)
		}
	}
}

// tally compares results as the cloud gets them with the answers that their
// sources should have.
type tally struct {
	answers [][]float64
	mu      sync.Mutex
	got     map[string]int
	wrong   string
}

func (c *tally) look(m broker.Message) {
	var r result
	err := json.Unmarshal(m.Payload, &r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got[r.Stream]++
	var p, which int
	if err == nil {
		_, err = fmt.Sscanf(r.Source, "%d/%d", &p, &which)
	}
	if err != nil || len(r.Values) != 1 || float32(r.Values[0]) != float32(c.answers[which][0]) {
		c.wrong = fmt.Sprintf("%s: alone it is %v (%v)", m.Payload, c.answers[which], err)
	}
}

func (c *tally) all() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.got {
		n += k
	}
	return n
}

// A message that a client sends again makes the same id where it has a number
// of its own; after a start no id comes that was there before.
func TestIDs(t *testing.T) {
	dir := t.TempDir()
	var ids [][]string
	for range 3 {
		g := begin(t, dir, "edge", `
streams:
  numbered: {topics: [n/+], input: {json: [v], seq: n}}
  counted: {topics: [c/+], input: {json: [v]}}
`)
		here := g.subscribe("results/#")
		c := g.client("sensor")
		publish(t, c, "n/a", `{"v":1,"n":41}`, `{"v":1,"n":41}`, `{"v":2,"n":42}`)
		publish(t, c, "c/a", `{"v":1}`, `{"v":1}`)
		until(t, "all results", func() bool { return here.len() == 5 })
		of := map[string][]string{}
		for _, m := range here.all() {
			r := decode[result](t, m.Payload)
			of[r.Stream] = append(of[r.Stream], r.ID)
		}
		n, k := of["numbered"], of["counted"]
		if n[0] != n[1] || n[1] == n[2] || !strings.HasSuffix(n[0], "-41") || k[0] == k[1] || !strings.HasSuffix(k[1], "-2") {
			t.Errorf("ids %v", of)
		}
		ids = append(ids, []string{n[0], k[0]})
		g.stop()
	}
	for i := range ids {
		for k := range i {
			if ids[i][0] == ids[k][0] || ids[i][1] == ids[k][1] {
				t.Errorf("an id came again after a start: %v", ids)
			}
		}
	}
}

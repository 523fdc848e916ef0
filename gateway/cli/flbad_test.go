package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"edgegateway/fl"
	"edgegateway/fl/aggregate"
	"edgegateway/internal/keyfile"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// bad is a message that a coordinator must not take.
type bad struct {
	name string
	want fl.Reason
	m    fl.Message
}

// badMessages are what somebody may send who has the key of a gateway that is
// invited to a round, or none. heard is what gateways said so far.
func badMessages(h *flHall, job *fl.Job, heard []fl.Message) []bad {
	key, err := keyfile.ReadPrivate(h.path(job.Gateway + ".pem"))
	if err != nil {
		h.Fatal(err)
	}
	silent, err := keyfile.ReadPrivate(h.path("hall-4.pem"))
	if err != nil {
		h.Fatal(err)
	}
	values := make([]float32, len(job.Base.Values))
	encoded := func(delta []float32) []byte {
		data, _, err := aggregate.Encode(job.Task.Compression, delta, nil, 1)
		if err != nil {
			h.Fatal(err)
		}
		return data
	}
	nan := encoded(values)
	binary.LittleEndian.PutUint32(nan[len(nan)-4:], math.Float32bits(float32(math.NaN())))
	header := func(change func(*fl.Header)) fl.Header {
		head := fl.Header{Kind: fl.KindUpdate, Task: h.id, Round: job.Round, Base: job.Base.Hash(), Seq: 1 << 60, From: job.Gateway}
		if change != nil {
			change(&head)
		}
		return head
	}
	seal := func(head fl.Header, v any) fl.Message {
		body, ok := v.([]byte)
		if !ok {
			if body, err = fl.Pack(v); err != nil {
				h.Fatal(err)
			}
		}
		list, err := fl.Seal(head, body, 0, key)
		if err != nil {
			h.Fatal(err)
		}
		return list[0]
	}
	good := fl.Update{Samples: 10, Delta: encoded(values)}
	topic := func(of string) string { return "fl/" + h.id + "/from/" + of + "/update" }

	unsigned := seal(header(nil), good)
	unsigned.Payload = bytes.Clone(unsigned.Payload)
	clear(unsigned.Payload[len(unsigned.Payload)-64:])
	moved := seal(header(nil), good)
	moved.Topic = topic("hall-4")
	other := seal(header(func(h *fl.Header) { h.Task = "weather-000000000000" }), good)
	other.Topic = topic(job.Gateway)
	posing, err := fl.Seal(header(nil), []byte("x"), 0, silent)
	if err != nil {
		h.Fatal(err)
	}
	uninvited, err := fl.Seal(header(func(h *fl.Header) { h.From = "hall-4" }), []byte("x"), 0, silent)
	if err != nil {
		h.Fatal(err)
	}
	stranger := seal(header(func(h *fl.Header) { h.From = "stranger" }), good)
	list := []bad{
		{"a payload of 300,000 bytes", fl.TooLarge, fl.Message{Topic: topic(job.Gateway), Payload: bytes.Repeat([]byte{0x84}, 300_000)}},
		{"an update that is too long for the model", fl.TooLarge, seal(header(nil), make([]byte, fl.MostUpdate(len(values))+1))},
		{"no message of the protocol", fl.Malformed, fl.Message{Topic: topic(job.Gateway), Payload: []byte(`{"weights": [0, 0, 0]}`)}},
		{"nothing", fl.Malformed, fl.Message{Topic: topic(job.Gateway)}},
		{"an update without a signature", fl.BadSign, unsigned},
		{"one of a gateway that is not enrolled", fl.UnknownKey, stranger},
		{"one with another gateway's key", fl.UnknownKey, posing[0]},
		{"one on another gateway's topic", fl.BadTopic, moved},
		{"one of another task", fl.BadTopic, other},
		{"one of a gateway that is not invited", fl.Uninvited, uninvited[0]},
		{"a round that has not begun", fl.FutureRound, seal(header(func(h *fl.Header) { h.Round++ }), good)},
		{"a round that is over", fl.StaleRound, seal(header(func(h *fl.Header) { h.Round-- }), good)},
		{"one of other weights", fl.BadBase, seal(header(func(h *fl.Header) { h.Base = fl.Hash{1} }), good)},
		{"wrong shape", fl.BadWeights, seal(header(nil), fl.Update{Samples: 10, Delta: encoded(values[1:])})},
		{"NaN", fl.NotFinite, seal(header(nil), fl.Update{Samples: 10, Delta: nan})},
		{"of no samples", fl.BadSamples, seal(header(nil), fl.Update{Delta: good.Delta})},
		{"a figure that cannot be", fl.BadBody, seal(header(nil), fl.Update{Samples: 10, Delta: good.Delta, After: fl.Metrics{Samples: 1, Accuracy: 2}})},
		{"no update inside", fl.BadBody, seal(header(nil), []byte("what is this"))},
		{"an old hello", fl.StaleSeq, seal(header(func(h *fl.Header) { h.Kind, h.Seq = fl.KindHello, 1 }), fl.Hello{Samples: 9, Chunk: fl.MinChunk})},
	}
	for _, m := range heard {
		if head, err := fl.Peek(m); err == nil && head.Kind == fl.KindUpdate && head.Round == 1 {
			list = append(list, bad{"an update of round 1 once more", fl.StaleRound, m})
		}
	}
	return list
}

// Whatever is sent to a coordinator at work is refused by its name and counted,
// and its task ends with the weights that it ends with when nobody disturbs it.
func TestFLBadInput(t *testing.T) {
	t.Parallel()
	var models [2]fl.Hash
	for run := range models {
		h := newFLHall(t)
		jobs, goOn := make(chan *fl.Job), make(chan struct{})
		var once sync.Once
		for i, name := range []string{"hall-1", "hall-2", "hall-3"} {
			h.gateway(name, uint64(i+1), func(ctx context.Context, job *fl.Job) {
				if run == 1 && job.Round == 3 { // two rounds are over, and it is invited to this one
					once.Do(func() { jobs <- job; <-goOn })
				}
			})
			h.enroll(name)
		}
		h.key("hall-4")
		h.enroll("hall-4")
		raw, err := link.Connect(t.Context(), link.Config{URL: h.broker, ClientID: "mallory"})
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		heard := make(chan fl.Message, 1000)
		if err := raw.Subscribe(t.Context(), []string{fl.FromFilter(h.id)}, 1, func(m link.Msg) { heard <- fl.Message{Topic: m.Topic, Payload: m.Payload} }); err != nil {
			t.Fatal(err)
		}
		p := h.coordinator()
		want := map[fl.Reason]int{}
		if run == 1 {
			job := soon(t, "a job of round 3", jobs)
			var said []fl.Message
			for len(heard) > 0 {
				said = append(said, <-heard)
			}
			list := badMessages(h, job, said)
			if replayed := list[len(list)-1]; replayed.want != fl.StaleRound {
				t.Fatal("nobody heard an update of round 1")
			}
			for _, b := range list {
				if len(b.m.Payload) > 0 && b.want == fl.Malformed {
					h.mosquittoPub(b.m)
				} else if err := raw.Publish(t.Context(), link.Msg{Topic: b.m.Topic, Payload: b.m.Payload, QoS: 1}); err != nil {
					t.Fatal(err)
				}
				p.Line(`refused \(` + regexp.QuoteMeta(string(b.want)) + `\)`)
				want[b.want]++
			}
			close(goOn)
		}
		p.Line(`task clouds-\w+ is over, all of 6 rounds are over`)
		if code := p.Exit(); code != 0 {
			t.Fatalf("it ended with %d", code)
		}
		s := h.status()
		models[run] = s.Model.Hash
		if fmt.Sprint(s.Refused) != fmt.Sprint(want) {
			t.Errorf("run %d: refused were %v, sent were %v", run, s.Refused, want)
		}
		out, err := h.run("fl", "status", "--data", h.path("tasks"))
		for why, n := range want {
			if err != nil || !strings.Contains(out, fmt.Sprintf("%s %d", why, n)) {
				t.Errorf("fl status does not say %s %d: %v\n%s", why, n, err, out)
			}
		}
	}
	if models[0] != models[1] {
		t.Errorf("undisturbed %v, with bad input %v", models[0], models[1])
	}
}

// mosquittoPub publishes by somebody else's program.
func (h *flHall) mosquittoPub(m fl.Message) {
	h.Helper()
	host, port, err := net.SplitHostPort(h.broker)
	if err != nil {
		h.Fatal(err)
	}
	cmd := exec.Command(testkit.Program(h, "mosquitto_pub"), "-h", host, "-p", port, "-q", "1", "-t", m.Topic, "-s")
	cmd.Stdin = bytes.NewReader(m.Payload)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.Fatalf("mosquitto_pub: %v %s", err, out)
	}
}

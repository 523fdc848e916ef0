package fl

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"edgegateway/configs"
)

// samples are messages of each kind, sealed by a coordinator and a gateway.
func samples(t testing.TB) (list []Message, coordinator, gateway Find) {
	t.Helper()
	task := smallTask()
	encoded, err := task.Encode()
	do(t, err)
	id, err := task.ID()
	do(t, err)
	w := &Weights{Layout: Hash{1}, Values: []float32{1, -2, 0.5}}
	body, err := w.Encode()
	do(t, err)
	ref := Ref{Hash: w.Hash(), Body: Hash{2}, Bytes: len(body), Chunks: 1, Round: 1}
	figures := Metrics{Samples: 10, Loss: 0.5, Accuracy: 0.25}
	for _, c := range []struct {
		kind Kind
		v    any
	}{
		{KindTask, Announcement{Task: encoded, State: "running", Round: 2, Rounds: 20, Model: ref, Best: ref, Score: figures}},
		{KindCall, Call{Invited: true, Model: ref, Deadline: 1_700_000_000_000, Have: []int{0, 2}, Counted: "counted"}},
		{KindHello, Hello{Samples: 600, Version: "v1", Chunk: DefaultChunk}},
		{KindReport, Report{Model: w.Hash(), State: "refused", Why: "the one in use is better", New: figures, Old: figures}},
		{KindUpdate, Update{Samples: 600, Delta: []byte{1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, Before: figures, After: figures, Seconds: 1.5}},
	} {
		packed, err := Pack(c.v)
		do(t, err)
		list = append(list, sealed(t, c.kind, id, packed)...)
	}
	list = append(list, sealed(t, KindModel, id, body)...)
	return append(list, sealed(t, KindModel, id, noise(5000, 3))...), Trusted([]ed25519.PublicKey{publicOf("coordinator")}), Enrolled(KeyMap{"press7": publicOf("press7")})
}

// sealed is a body from whom its kind is from, in chunks of 2,000 bytes.
func sealed(t testing.TB, kind Kind, task string, body []byte) []Message {
	t.Helper()
	h, key := Header{Kind: kind, Task: task, Round: 2, Base: Hash{7}, Seq: 40}, keyOf("coordinator")
	switch kind {
	case KindCall:
		h.To = "press7"
	case KindHello, KindUpdate, KindReport:
		h.From, key = "press7", keyOf("press7")
	}
	chunk := 2000
	if kind != KindModel && kind != KindUpdate {
		chunk = 0
	}
	list, err := Seal(h, body, chunk, key)
	do(t, err)
	return list
}

// asAll reads a part as everything that a message can be.
func asAll(t testing.TB, p *Part) {
	named := func(err error) bool {
		if err != nil && ReasonOf(err) == "" {
			t.Errorf("an error that is no refusal: %v", err)
		}
		return err == nil
	}
	for _, v := range []any{&Announcement{}, &Call{}, &Hello{}, &Report{}} {
		named(p.Into(v))
	}
	if u, delta, err := DecodeUpdate(p.Data, 3); named(err) && (len(delta) != 3 || notFinite(delta) >= 0 || u.Samples < 1) {
		t.Errorf("an update of %v from %d samples", delta, u.Samples)
	}
	if w, err := DecodeWeights(p.Data, Hash{1}, 3); named(err) && (len(w.Values) != 3 || notFinite(w.Values) >= 0) {
		t.Errorf("weights %v", w.Values)
	}
}

// FuzzOpen gives messages from anybody to both sides, and to what puts bodies
// together.
func FuzzOpen(f *testing.F) {
	list, coordinator, gateway := samples(f)
	for _, m := range list {
		f.Add(m.Topic, m.Payload)
	}
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		for _, find := range []Find{coordinator, gateway} {
			p, err := Open(Message{Topic: topic, Payload: payload}, find)
			if err != nil {
				if ReasonOf(err) == "" {
					t.Fatalf("an error that is no refusal: %v", err)
				}
				continue
			}
			asAll(t, p)
			c, err := NewCollector(NewMemory(), "in/", 1<<16, 2)
			do(t, err)
			if _, err := c.Add(p); err != nil && ReasonOf(err) == "" {
				t.Fatalf("an error that is no refusal: %v", err)
			}
		}
		if h, err := Peek(Message{Topic: topic, Payload: payload}); err == nil && h.Topic() != topic {
			t.Fatalf("%s came on %s", h.Topic(), topic)
		}
	})
}

// FuzzHeader gives headers and parts that are signed by somebody who may: what
// is behind the signature is read all the same.
func FuzzHeader(f *testing.F) {
	list, coordinator, gateway := samples(f)
	for _, m := range list {
		var e envelope
		do(f, unmarshal(m.Payload, &e))
		f.Add(e.Header, e.Part)
	}
	f.Fuzz(func(t *testing.T, header, part []byte) {
		for name, find := range map[string]Find{"coordinator": coordinator, "press7": gateway} {
			var h Header
			if unmarshal(header, &h) != nil {
				return
			}
			key := keyOf(name)
			payload, err := marshal(envelope{Header: header, Part: part, Key: idOf(key), Signature: ed25519.Sign(key, toSign(header, part))})
			do(t, err)
			p, err := Open(Message{Topic: h.Topic(), Payload: payload}, find)
			if err != nil && ReasonOf(err) == "" {
				t.Fatalf("an error that is no refusal: %v", err)
			}
			if err == nil {
				if (name == "coordinator") != (p.From == "") {
					t.Fatalf("a %s signed by the %s", p.Header.String(), name)
				}
				asAll(t, p)
			}
		}
	})
}

// FuzzBody gives what is in bodies, packed as it should be.
func FuzzBody(f *testing.F) {
	list, _, _ := samples(f)
	for _, m := range list {
		p, err := Peek(m)
		do(f, err)
		var e envelope
		do(f, unmarshal(m.Payload, &e))
		if plain, err := unzip(e.Part, 1<<16); err == nil {
			f.Add(string(p.Kind), plain, true)
		}
		f.Add(string(p.Kind), e.Part, false)
	}
	f.Fuzz(func(t *testing.T, kind string, body []byte, plain bool) {
		if plain {
			body = zip(body)
		}
		asAll(t, &Part{Header: Header{Kind: Kind(kind), Chunks: 1}, Data: body})
	})
}

// FuzzTask gives tasks as they travel, and as files: what is taken is the same
// after it travelled.
func FuzzTask(f *testing.F) {
	b, err := smallTask().Encode()
	do(f, err)
	f.Add(b)
	f.Add([]byte("name: digits\nmodel: {preset: mlp, input: [28, 28, 1], classes: [a, b]}\nstrategy: {kind: krum, attackers: 2}\ncohort: {size: 10}\n"))
	f.Add([]byte("name: door\nmodel: {network: {layers: [{type: dense, units: 8, activation: relu}, {type: dense}]}, input: [4], values: 2, norm: {mean: [1, 2, 3, 4], std: [1, 1, 1, 2]}}\ndeadline: 10m\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		task, id, err := DecodeTask(b)
		if err != nil {
			file := DefaultTask()
			if _, err := configs.Parse("task.yaml", b, &file); err != nil || file.Validate() != nil {
				return
			}
			task = &file
		}
		again, err := task.Encode()
		if err != nil {
			t.Fatalf("a task that is valid does not travel: %v", err)
		}
		if len(again) > maxTask {
			return
		}
		same, id2, err := DecodeTask(again)
		if err != nil || id != "" && id != id2 {
			t.Fatalf("%s came back as %s: %v", id, id2, err)
		}
		if third, _ := same.Encode(); !bytes.Equal(third, again) {
			t.Fatal("a task changed on its way")
		}
	})
}

// FuzzModelTopic gives topics of all sorts.
func FuzzModelTopic(f *testing.F) {
	f.Add(ModelTopic("digits-1", Hash{1}, 12))
	f.Add("fl/a/model//0")
	f.Fuzz(func(t *testing.T, topic string) {
		if task, body, chunk, ok := ModelChunk(topic); ok && ModelTopic(task, body, chunk) != topic {
			t.Errorf("%q became %q", topic, ModelTopic(task, body, chunk))
		}
		TaskOf(topic)
	})
}

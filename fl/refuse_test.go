package fl

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"edgegateway/internal/keyfile"
)

// forged is a message with a header that Seal would not make.
func forged(t testing.TB, key ed25519.PrivateKey, part []byte, change func(*Header)) Message {
	t.Helper()
	h := Header{Format: Format, Kind: KindUpdate, Task: "t", Round: 1, Body: sha256.Sum256(part), Bytes: len(part), Chunks: 1, Seq: 1, From: "press7"}
	change(&h)
	header, err := marshal(h)
	do(t, err)
	payload, err := marshal(envelope{Header: header, Part: part, Key: idOf(key), Signature: ed25519.Sign(key, toSign(header, part))})
	do(t, err)
	return Message{Topic: h.Topic(), Payload: payload}
}

// What Open sees of a message alone, each by its name.
func TestRefused(t *testing.T) {
	key, other := keyOf("press7"), keyOf("somebody")
	find := Enrolled(KeyMap{"press7": publicOf("press7"), "press8": publicOf("press8")})
	part := noise(2000, 1)
	same := func(*Header) {}
	if _, err := Open(forged(t, key, part, same), find); err != nil {
		t.Fatal(err)
	}
	signature := forged(t, key, part, same)
	signature.Payload[len(signature.Payload)-1] ^= 1
	moved := forged(t, key, part, same)
	moved.Topic = "fl/t/from/press8/update"
	long := forged(t, key, part, same)
	long.Payload = append(long.Payload, make([]byte, maxMessage)...)
	for name, c := range map[string]struct {
		m    Message
		want Reason
	}{
		"too long":                 {long, TooLarge},
		"nothing":                  {Message{Topic: "fl/t/task"}, Malformed},
		"no CBOR":                  {Message{Topic: "fl/t/task", Payload: []byte("hello")}, Malformed},
		"bytes behind it":          {Message{Topic: moved.Topic, Payload: append(bytes.Clone(moved.Payload), 0)}, Malformed},
		"another format":           {forged(t, key, part, func(h *Header) { h.Format = 2 }), BadFormat},
		"a kind of no name":        {forged(t, key, part, func(h *Header) { h.Kind = "secret" }), BadKind},
		"a call from a gateway":    {forged(t, key, part, func(h *Header) { h.Kind = KindCall; h.To = "press7" }), BadKind},
		"an update from nobody":    {forged(t, key, part, func(h *Header) { h.From = "" }), BadKind},
		"an update to somebody":    {forged(t, key, part, func(h *Header) { h.To = "press8" }), BadKind},
		"a task of bad name":       {forged(t, key, part, func(h *Header) { h.Task = "a/b" }), Malformed},
		"a gateway of bad name":    {forged(t, key, part, func(h *Header) { h.From = "a+b" }), Malformed},
		"a round below 0":          {forged(t, key, part, func(h *Header) { h.Round = -1 }), Malformed},
		"a chunk beyond the last":  {forged(t, key, part, func(h *Header) { h.Chunk = 1 }), BadChunk},
		"no chunks":                {forged(t, key, part, func(h *Header) { h.Chunks = 0 }), BadChunk},
		"too many chunks":          {forged(t, key, part, func(h *Header) { h.Chunks = maxChunks + 1 }), BadChunk},
		"chunks of no length":      {forged(t, key, part, func(h *Header) { h.Chunks, h.Bytes = 3, 9000 }), BadChunk},
		"chunks that are tiny":     {forged(t, key, part[:MinChunk-1], func(h *Header) { h.Chunks, h.Bytes = 2, 2*MinChunk-2 }), BadChunk},
		"a hello in chunks":        {forged(t, key, part, func(h *Header) { h.Kind, h.Chunks, h.Bytes = KindHello, 2, 4000 }), BadChunk},
		"an empty body":            {forged(t, key, nil, same), BadChunk},
		"another body":             {forged(t, key, part, func(h *Header) { h.Body = Hash{1} }), BadBody},
		"another topic":            {moved, BadTopic},
		"a gateway not enrolled":   {forged(t, key, part, func(h *Header) { h.From = "press9" }), UnknownKey},
		"another gateway's name":   {forged(t, key, part, func(h *Header) { h.From = "press8" }), UnknownKey},
		"a key that is not known":  {forged(t, other, part, same), UnknownKey},
		"a changed signature":      {signature, BadSign},
		"a gateway as coordinator": {forged(t, key, part, func(h *Header) { h.Kind, h.From = KindTask, "" }), UnknownKey},
	} {
		if _, err := Open(c.m, find); ReasonOf(err) != c.want {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
}

// What a Collector sees beside what it has.
func TestCollectorRefuses(t *testing.T) {
	c, err := NewCollector(NewMemory(), "in/", 8000, 2)
	do(t, err)
	parts := func(from string, seq uint64, body []byte, chunk int) (list []*Part) {
		messages, err := Seal(Header{Kind: KindUpdate, Task: "t", Seq: seq, From: from}, body, chunk, keyOf(from))
		do(t, err)
		for _, m := range messages {
			p, err := Open(m, Enrolled(KeyMap{from: publicOf(from)}))
			do(t, err)
			list = append(list, p)
		}
		return list
	}
	body := noise(5000, 1)
	first := parts("a", 5, body, 2000)
	add := func(what string, p *Part, want Reason) {
		t.Helper()
		if whole, err := c.Add(p); ReasonOf(err) != want || err != nil && want == "" || whole != nil {
			t.Fatalf("%s: %d bytes, %v; want %q", what, len(whole), err, want)
		}
	}
	add("the first", first[0], "")
	add("the first again", first[0], "")
	add("an older one", parts("a", 4, body, 2000)[1], StaleSeq)
	add("another body", parts("a", 5, noise(5000, 2), 2000)[1], Conflict)
	add("other chunks", parts("a", 5, body, 1900)[1], Conflict)
	add("too long", parts("b", 1, noise(8001, 1), 2000)[0], BadBody)
	add("a second sender", parts("b", 1, body, 2000)[0], "")
	add("a third", parts("c", 1, body, 2000)[0], Busy)
	do(t, c.Drop(&first[1].Header))
	add("a third with room", parts("c", 1, body, 2000)[0], "")
	add("a newer one", parts("c", 2, noise(3500, 3), 2000)[0], "")
	if have := c.Have(&parts("c", 1, body, 2000)[0].Header); have != nil {
		t.Fatalf("of the older one there are %v", have)
	}

	// A sender that says another hash than its parts have is found out at the end,
	// and has nothing open then.
	d, err := NewCollector(NewMemory(), "in/", 8000, 1)
	do(t, err)
	for i := range 2 {
		m := forged(t, keyOf("a"), body[2500*i:2500*(i+1)], func(h *Header) {
			h.From, h.Bytes, h.Chunks, h.Chunk, h.Body = "a", 5000, 2, i, Hash{9}
		})
		p, err := Open(m, Enrolled(KeyMap{"a": publicOf("a")}))
		do(t, err)
		if _, err := d.Add(p); ReasonOf(err) != map[int]Reason{1: BadBody}[i] {
			t.Fatalf("part %d of a body of another hash: %v", i, err)
		}
	}
	if len(d.Open()) != 0 {
		t.Fatal("it is still open")
	}
}

// Parts that were damaged on the disk are asked for again; nothing else is
// taken for one.
func TestCollectorDamaged(t *testing.T) {
	st := NewMemory()
	body := noise(5000, 1)
	messages, err := Seal(Header{Kind: KindUpdate, Task: "t", Seq: 1, From: "a"}, body, 2000, keyOf("a"))
	do(t, err)
	var parts []*Part
	for _, m := range messages {
		p, err := Open(m, Enrolled(KeyMap{"a": publicOf("a")}))
		do(t, err)
		parts = append(parts, p)
	}
	c, err := NewCollector(st, "in/", 8000, 2)
	do(t, err)
	for _, p := range parts[:2] {
		_, err := c.Add(p)
		do(t, err)
	}
	names, err := st.List("in/")
	do(t, err)
	stored, err := st.Get(names[1])
	do(t, err)
	stored[len(stored)/2] ^= 1
	do(t, st.Put(names[1], stored))
	do(t, st.Put("in/update-a/7", []byte("what is this")))
	// One that was running sees it when the last part comes; one that starts, at once.
	for _, restart := range []bool{false, true} {
		if restart {
			if c, err = NewCollector(st, "in/", 8000, 2); err != nil {
				t.Fatal(err)
			}
		} else if whole, err := c.Add(parts[2]); err != nil || whole != nil {
			t.Fatalf("a damaged part gives %d bytes, %v", len(whole), err)
		}
		if have := c.Have(&parts[0].Header); fmt.Sprint(have) != "[0 2]" {
			t.Fatalf("there are %v", have)
		}
	}
	if whole, err := c.Add(parts[1]); err != nil || !bytes.Equal(whole, body) {
		t.Fatalf("%d bytes, %v", len(whole), err)
	}
}

// A body cannot become longer than it may, whatever it says.
func TestBombs(t *testing.T) {
	bomb := zip(make([]byte, 10<<20))
	w, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false))
	do(t, err)
	defer w.Close()
	var unsaid bytes.Buffer
	w.Reset(&unsaid)
	for range 200 {
		_, err := w.Write(make([]byte, 64<<10))
		do(t, err)
	}
	do(t, w.Close())
	small, err := Pack(Hello{Samples: 1, Chunk: MinChunk})
	do(t, err)
	for name, body := range map[string][]byte{
		"a bomb": bomb, "one that does not say": unsaid.Bytes(), "two frames": append(bytes.Clone(small), bomb...),
		"nothing": nil, "half": small[:len(small)/2], "no zstd": []byte("hello"),
	} {
		if err := Unpack(body, maxPlain, &Hello{}); ReasonOf(err) != BadBody {
			t.Errorf("%s (%d bytes): %v", name, len(body), err)
		}
	}
	do(t, Unpack(small, maxPlain, &Hello{}))
}

// A folder of keys has a file for each gateway; what it cannot take it names.
func TestKeyDir(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, text []byte) {
		do(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	_, public, id, err := keyfile.New()
	do(t, err)
	write("press7.pub", public)
	write("README", []byte("who may take part"))
	keys := KeyDir(dir)
	if k, ok := keys.Key("press7"); !ok || keyfile.ID(k) != id {
		t.Errorf("the key of press7 is not found")
	}
	for _, name := range []string{"press8", "", "../press7", "README"} {
		if _, ok := keys.Key(name); ok {
			t.Errorf("%q has a key", name)
		}
	}
	if names, err := keys.Names(); err != nil || fmt.Sprint(names) != "[press7]" {
		t.Errorf("enrolled are %v, %v", names, err)
	}
	// A file that was there for long is known by its time, until it is another one.
	old := time.Now().Add(-time.Hour)
	_, second, id2, err := keyfile.New()
	do(t, err)
	for i, want := range []string{id, id, id2, id, id2} {
		switch i {
		case 1:
			do(t, os.Chtimes(filepath.Join(dir, "press7.pub"), old, old))
		case 2: // in its place
			write("new", second)
			do(t, os.Chtimes(filepath.Join(dir, "new"), old, old))
			do(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "press7.pub")))
		case 3: // into it
			write("press7.pub", public)
		case 4:
			write("press7.pub", second)
		}
		for range 2 {
			if k, ok := keys.Key("press7"); !ok || keyfile.ID(k) != want {
				t.Errorf("step %d: %v, %s", i, ok, keyfile.ID(k))
			}
		}
	}
	do(t, os.Remove(filepath.Join(dir, "press7.pub")))
	if _, ok := keys.Key("press7"); ok {
		t.Error("one that was sent away has a key")
	}
	write("press7.pub", public)
	write("two.pub", append(bytes.Clone(public), public...))
	if _, err := keys.Names(); err == nil || !strings.Contains(err.Error(), "two.pub") {
		t.Errorf("a file of two keys: %v", err)
	}
	do(t, os.Remove(filepath.Join(dir, "two.pub")))
	write("a b.pub", public)
	if _, err := keys.Names(); err == nil || !strings.Contains(err.Error(), `a b.pub`) {
		t.Errorf("a bad name: %v", err)
	}
}

// A task file is read with the model beside it, and wrong ones are told by line.
func TestLoadTask(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(dir, "task.yaml")
		do(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	n, err := smallTask().Network()
	do(t, err)
	m, err := n.Export("a test", []string{"a", "b", "c"})
	do(t, err)
	model, err := m.Write()
	do(t, err)
	do(t, os.WriteFile(filepath.Join(dir, "base.tflite"), model, 0o600))

	task, err := LoadTask(file("name: digits\nmodel: {file: base.tflite, train: head}\ndata: {stream: camera}\n"))
	do(t, err)
	encoded, err := task.Encode()
	do(t, err)
	there, _, err := DecodeTask(encoded)
	do(t, err)
	if _, err := there.Network(); err == nil || !strings.Contains(err.Error(), "base.tflite is not here yet") {
		t.Errorf("a network without its file: %v", err)
	}
	if err := there.SetFile(append(bytes.Clone(model), 0)); ReasonOf(err) != BadBody {
		t.Errorf("another file: %v", err)
	}
	do(t, there.SetFile(model))
	head, err := there.Network()
	do(t, err)
	all, err := task.Network()
	do(t, err)
	w, err := FromNetwork(head)
	do(t, err)
	if len(w.Values) != 128*3+3 || w.Into(all) != nil {
		t.Errorf("the head has %d weights", len(w.Values))
	}

	for text, want := range map[string]string{
		"name: a/b\nmodel: {preset: mlp, input: [4], classes: [x, y]}\n": `task.yaml:1:1: name: the name "a/b" has a '/'`,
		"name: a\n": "task.yaml: model: one of file, network and preset",
		"name: a\nmodel: {preset: mlp, input: [4]}\n":                                                                                        "either classes or values",
		"name: a\nmodel:\n  preset: mpl\n  input: [4]\n  values: 2\n":                                                                        `task.yaml:3:3: model.preset: "mpl" is none of`,
		"name: a\nmodel: {file: none.tflite}\n":                                                                                              "none.tflite: no such file",
		"name: a\nmodel: {file: base.tflite, input: [5]}\n":                                                                                  "base.tflite takes [8], the task gives [5]",
		"name: a\nmodel: {preset: mlp, input: [4], values: 2, train: head}\n":                                                                "head needs a file",
		"name: a\nmodel: {network: {layers: [{type: dense}]}, input: [4], values: 2}\npublish: {quantize: int8}\n":                           "publish.quantize: int8 is of what gateways take over, and publish.model names no model",
		"name: a\nmodel: {network: {layers: [{type: dense}]}, input: [4], values: 2}\ncohort: {size: 3, quorum: 4}\n":                        "cohort.quorum: 4 are more than the 3 of a round",
		"name: a\nmodel: {network: {layers: [{type: dense}]}, input: [4], values: 2}\nstrategy: {kind: krum}\n":                              "strategy.attackers",
		"name: a\nmodel: {network: {layers: [{type: dense}]}, input: [4], values: 2}\nstrategy: {kind: median}\ncompression: {kind: topk}\n": "compression.kind",
		"name: a\nmodel: {network: {layers: [{type: dense, units: 3}]}, input: [4], values: 2}\n":                                            "it answers with 3 values, the task is for 2",
		"name: a\nmodel: {network: {layers: [{type: dens}]}, input: [4], values: 2}\n":                                                       "model.network.layers[0].type",
		"name: a\nmodel: {network: {layers: [{type: dense}]}, input: [4], values: 2, norm: {mean: [0, 0, 0, 0], std: [1, 1, 0, 1]}}":         "deviation 0 of feature 2",
		"name: a\nround: 3\n": "round",
	} {
		if _, err := LoadTask(file(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

// What a look at a known key costs: a coordinator does it for each member.
func BenchmarkKeyDir(b *testing.B) {
	dir := b.TempDir()
	_, public, _, err := keyfile.New()
	do(b, err)
	path := filepath.Join(dir, "press7.pub")
	do(b, os.WriteFile(path, public, 0o600))
	old := time.Now().Add(-time.Hour)
	do(b, os.Chtimes(path, old, old))
	keys := KeyDir(dir)
	for b.Loop() {
		keys.Key("press7")
	}
}

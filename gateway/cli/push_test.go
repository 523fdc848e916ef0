package cli_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgegateway/infer/model"
	"edgegateway/infer/store"
	"edgegateway/internal/keyfile"
	"edgegateway/internal/link"
	"edgegateway/internal/offer"
	"edgegateway/internal/testkit"
)

// fetcher is the configuration of a gateway to which models are pushed.
func fetcher(t *testing.T, name, cloud, more string) (config, data string) {
	t.Helper()
	dir := t.TempDir()
	data = filepath.Join(dir, "data")
	return write(t, dir, name+".yaml", fmt.Sprintf(`
gateway: %s
data: %s
broker: {listeners: [{tcp: "127.0.0.1:0"}]}
dashboard: {listen: ""}
upstream: {cloud: {url: "tcp://%s", retry_min: 20ms, retry_max: 100ms}}
rollout: {preflight: {eager: true}} # a busy machine lets nothing idle run
%s`, name, data, cloud, more)), data
}

// versionsIn looks into a store as nobody who runs a gateway does.
func versionsIn(t *testing.T, data, name string) []store.Version {
	t.Helper()
	m := stateOf(t, openStore(t, data), name)
	if m == nil {
		return nil
	}
	return m.Versions
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// pushed runs `model push` and gives what it printed, its words on failure too.
func pushed(t *testing.T, code int, args ...string) string {
	t.Helper()
	got := run(t, "", append([]string{"model", "push"}, args...)...)
	if got.code != code {
		t.Fatalf("exit code %d, want %d: %s%s", got.code, code, got.stdout, got.stderr)
	}
	return got.stdout + got.stderr
}

// retained are the topics at a broker that hold something, without states of
// gateways.
func retained(t *testing.T, addr string) []string {
	t.Helper()
	return slices.Sorted(maps.Keys(retainedAll(t, addr)))
}

// retainedAll is retained with what they hold.
func retainedAll(t *testing.T, addr string) map[string][]byte {
	t.Helper()
	c, err := link.Connect(t.Context(), link.Config{URL: addr, ClientID: "retained"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	came := make(chan link.Msg, 10000)
	if err := c.Subscribe(t.Context(), []string{"#"}, 1, func(m link.Msg) { came <- m }); err != nil {
		t.Fatal(err)
	}
	// What a broker retains comes before what is published now.
	if err := c.Publish(t.Context(), link.Msg{Topic: "end", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for m := range came {
		if m.Topic == "end" {
			return all
		}
		if !strings.HasSuffix(m.Topic, "/status") {
			all[m.Topic] = m.Payload
		}
	}
	return nil
}

// A real model comes over a link that breaks again and again, to a gateway that
// is there; the bytes on the wire are counted by a proxy, both ways. Nothing is
// left at the broker.
func TestPushOverAThinLink(t *testing.T) {
	file := testkit.Shared(t, "models/vww_96_float.tflite")
	addr := testkit.Mosquitto(t, "")
	proxy := testkit.NewProxy(t, addr)
	proxy.CutEvery(300_000)
	config, data := fetcher(t, "hall-7", proxy.Addr(), "")
	start(t, "run", "--config", config).Line(` ready `)
	said := pushed(t, 0, "--broker", addr, "--gateway", "hall-7", "--name", "person", "--version", "1.2", "--json", file)
	var last struct {
		State            string
		Of, Bytes        int64
		Chunk, Links     int
		Gateway, Version string
	}
	for line := range strings.Lines(said) {
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	got := proxy.Carried()
	wire := float64(got.Up+got.Down) / float64(last.Of)
	t.Logf("a model packed into %d bytes: %d down and %d up, %+.1f %%, over %d connections of which %d broke; chunks of %d at last",
		last.Of, got.Down, got.Up, (wire-1)*100, got.Links, got.Cuts, last.Chunk)
	if last.State != "got" || last.Gateway != "hall-7" || last.Version != "1.2" || wire > 1.12 || got.Cuts < 2 {
		t.Errorf("%+v, %.3f times its size went over the wire", last, wire)
	}
	if v := versionsIn(t, data, "person"); len(v) != 1 || v[0].Version != "1.2" || v[0].Model != fileSum(t, file) {
		t.Errorf("the store has %+v", v)
	}
	if left := retained(t, addr); len(left) > 0 {
		t.Errorf("left at the broker: %v", left)
	}
}

// A gateway that is away when something is pushed finds it later, with nobody
// who pushes; it is killed again and again in the middle and goes on where it
// was. What is left at the broker is taken away by name.
func TestPushToWhoIsAway(t *testing.T) {
	t.Parallel()
	file := testkit.Shared(t, "models/vww_96_float.tflite")
	addr := testkit.Mosquitto(t, "")
	said := pushed(t, 0, "--broker", addr, "-g", "hall-8", "-g", "hall-7", "--until", "14d", "--detach", "--name", "person", "--version", "1", file)
	if !strings.Contains(said, "person@1 waits at the broker for hall-7, hall-8; to take it away: edgegateway model push --broker "+addr+" --clear person") {
		t.Error(said)
	}
	var size int64
	if _, err := fmt.Sscanf(said, "person@1, whole: %d bytes, in ", &size); err != nil {
		t.Fatalf("%s: %v", said, err)
	}
	proxy := testkit.NewProxy(t, addr)
	proxy.Slow(1 << 20)
	config, data := fetcher(t, "hall-7", proxy.Addr(), "")
	const kills = 2
	for i := range int64(kills) {
		gateway := start(t, "run", "--config", config)
		for late := time.Now().Add(time.Minute); proxy.Carried().Down < (i+1)*300_000; time.Sleep(time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("%+v", proxy.Carried())
			}
		}
		gateway.Kill()
		if v := versionsIn(t, data, "person"); v != nil {
			t.Fatalf("it has it already: %+v", v)
		}
	}
	proxy.Slow(0)
	start(t, "run", "--config", config).Line(` a model came from the cloud .*model=person`)
	if v := versionsIn(t, data, "person"); len(v) != 1 || v[0].Version != "1" || v[0].Model != fileSum(t, file) {
		t.Errorf("the store has %+v", v)
	}
	got := proxy.Carried()
	t.Logf("%d bytes down, with %d kills, of a file of %d bytes", got.Down, kills, size)
	// What came in the last moment and was not on the disk yet is lost: at most
	// what is asked for at a time.
	if got.Down > size*102/100+kills*8*32_768 {
		t.Errorf("%d bytes down: what was there was fetched again", got.Down)
	}
	// The other gateway keeps the chunks there.
	pushed(t, 0, "--broker", addr, "--clear", "person", "-g", "hall-7")
	if left := retained(t, addr); len(left) < 100 {
		t.Errorf("what hall-8 needs is gone too: %v", left)
	}
	if said := pushed(t, 0, "--broker", addr, "--clear", "person"); said != "person is offered no more to 1 gateway\n" {
		t.Error(said)
	}
	if left := retained(t, addr); len(left) > 0 {
		t.Errorf("left at the broker: %v", left)
	}
	if said := pushed(t, 1, "--broker", addr, "--clear", "person"); !strings.Contains(said, "nothing of person is offered at gateways/+/models/offers/person") {
		t.Error(said)
	}
}

// Who offers another version in the place of one that waits leaves nothing of
// the older one at the broker, but what other gateways still need; nor is what
// waited until a date that has passed left there.
func TestPushInPlace(t *testing.T) {
	t.Parallel()
	addr := testkit.Mosquitto(t, "")
	older, newer := testkit.Shared(t, "models/vww_96_int8.tflite"), testkit.Shared(t, "models/hello_world_float.tflite")
	push := func(args ...string) { pushed(t, 0, append([]string{"-b", addr, "--detach"}, args...)...) }
	of := func(gateways ...string) (n int) { // chunks, of offers for these and no other
		t.Helper()
		all := retainedAll(t, addr)
		offers, index, pushes, chunks := 0, 0, map[string]bool{}, map[string]bool{}
		for topic, payload := range all {
			if strings.HasPrefix(topic, "models/pushed/") {
				index++
			}
			if !strings.Contains(topic, offer.OffersAt) {
				continue
			}
			o, err := offer.Parse(payload)
			if err != nil || !slices.Contains(gateways, strings.Split(topic, "/")[1]) {
				t.Errorf("%s: %s, %v", topic, payload, err)
				continue
			}
			offers++
			if o.ID != "1" { // by hand, below
				pushes[o.ID] = true
			}
			for chunk := range o.Chunks() {
				if chunks[chunk] = true; len(all[chunk]) == 0 {
					t.Errorf("%s is not there", chunk)
				}
			}
		}
		if left := len(all) - offers - index - len(chunks); offers != len(gateways) || left > 0 || index != len(pushes) {
			t.Errorf("%d offers, not %d, of %d pushes, %d in the index, and %d that no offer names", offers, len(gateways), len(pushes), index, left)
		}
		return len(chunks)
	}
	push("-g", "a", "-g", "b", "--name", "leak", "--version", "1", older)
	both := of("a", "b")
	push("-g", "a", "--name", "leak", "--version", "2", newer) // b keeps the older one
	if n := of("a", "b"); n <= both {
		t.Errorf("%d chunks of two versions, %d of one", n, both)
	}
	push("-g", "b", "--name", "leak", "--version", "2", newer)
	if n := of("a", "b"); n >= both {
		t.Errorf("%d chunks of the newer one, %d of the older", n, both)
	}
	// One whose date has passed since, as a push would have left it.
	sum := strings.Repeat("0a", 32)
	over := offer.Offer{ID: "1", Name: "short", Model: sum, Until: time.Now().Add(-time.Second),
		Files: []offer.File{{SHA256: sum, Bytes: 5000, Topic: "models/" + sum, Chunks: []int{4096}}}}
	c, err := link.Connect(t.Context(), link.Config{URL: addr, ClientID: "over"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for topic := range over.Chunks() {
		if err := c.Publish(t.Context(), link.Msg{Topic: topic, Payload: []byte("chunk"), QoS: 1, Retain: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Publish(t.Context(), link.Msg{Topic: "gateways/c/models/offers/short", Payload: offer.Encode(over), QoS: 1, Retain: true}); err != nil {
		t.Fatal(err)
	}
	of("a", "b", "c")
	push("-g", "d", "--name", "other", newer)
	of("a", "b", "d")
	pushed(t, 0, "-b", addr, "--clear", "leak")
	of("d")
	pushed(t, 0, "-b", addr, "--clear", "other")
	if left := retained(t, addr); len(left) > 0 {
		t.Errorf("left at the broker: %v", left)
	}
}

// bundleOf writes a bundle of a model, signed where a key is given.
func bundleOf(t *testing.T, name, version, file string, key ed25519.PrivateKey) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	m := store.Manifest{Format: store.Format, Name: name, Version: version, Model: "model.tflite",
		Files: map[string]store.Part{"model.tflite": store.PartOf(b)}}
	if err := store.WriteBundle(&out, m, map[string][]byte{"model.tflite": b}, key); err != nil {
		t.Fatal(err)
	}
	return write(t, t.TempDir(), name+"-"+version+store.Ext, out.String())
}

// A gateway that trusts one key refuses what that one has not signed, with the
// reason, and takes what it has; the command's exit code says so.
func TestPushSigned(t *testing.T) {
	t.Parallel()
	private, public, _, err := keyfile.New()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, err := keyfile.ReadPrivate(write(t, dir, "private.pem", string(private)))
	if err != nil {
		t.Fatal(err)
	}
	addr := testkit.Mosquitto(t, "")
	config, data := fetcher(t, "hall-7", addr, fmt.Sprintf("store: {keys: [%s], require_signed: true}", write(t, dir, "public.pem", string(public))))
	start(t, "run", "--config", config).Line(` ready `)
	file := testkit.Shared(t, "models/vww_96_int8.tflite")
	said := pushed(t, 1, "-b", addr, "-g", "hall-7", "--name", "person", file)
	if !strings.Contains(said, "hall-7: refused: person: not signed: it is a model without a bundle, and require_signed is set; model bundle --key makes a signed one\n") || !strings.HasSuffix(said, "edgegateway: person: hall-7 refused it\n") {
		t.Error(said)
	}
	other, _, _, err := keyfile.New()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := keyfile.ReadPrivate(write(t, dir, "other.pem", string(other)))
	if err != nil {
		t.Fatal(err)
	}
	said = pushed(t, 1, "-b", addr, "-g", "hall-7", bundleOf(t, "person", "1", file, stranger))
	if !strings.Contains(said, "hall-7: refused: person@1: signed with a key that is not trusted: "+keyfile.ID(stranger.Public().(ed25519.PublicKey))+"; store.keys names those that are") {
		t.Error(said)
	}
	said = pushed(t, 0, "-b", addr, "-g", "hall-7", bundleOf(t, "person", "2", file, key))
	if !strings.Contains(said, "hall-7: got, ") {
		t.Error(said)
	}
	if v := versionsIn(t, data, "person"); len(v) != 1 || v[0].Version != "2" || v[0].Signed == "" || v[0].Model != fileSum(t, file) {
		t.Errorf("the store has %+v", v)
	}
	if left := retained(t, addr); len(left) > 0 {
		t.Errorf("left at the broker: %v", left)
	}
}

// What changed since the model that the configuration names is all that a
// gateway fetches which has that one; another one gets the whole.
func TestPushDelta(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := testkit.Shared(t, "models/vww_96_int8.tflite")
	b, err := os.ReadFile(old)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 { // among the weights
		b[len(b)/2+i] ^= 1
	}
	next := bundleOf(t, "person", "2", write(t, dir, "next.tflite", string(b)), nil)
	addr := testkit.Mosquitto(t, "")
	has, hasData := fetcher(t, "has", addr, "models: {person: {file: "+old+", output: classes}}\ninfer: {delegate: builtin}\n")
	lacks, lacksData := fetcher(t, "lacks", addr, "")
	start(t, "run", "--config", has).Line(` ready `)
	start(t, "run", "--config", lacks).Line(` ready `)
	said := pushed(t, 0, "-b", addr, "-g", "has", "-g", "lacks", "--base", old, "--json", next)
	of := map[string]int64{}
	for line := range strings.Lines(said) {
		var r struct {
			Gateway, State string
			Of             int64
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(line)
		}
		if r.State == "got" {
			of[r.Gateway] = r.Of
		}
	}
	t.Logf("bytes of what was fetched: %v", of)
	if of["has"] == 0 || of["has"] > 5000 || of["lacks"] < 50_000 {
		t.Errorf("bytes of what was fetched: %v", of)
	}
	for _, data := range []string{hasData, lacksData} {
		v := versionsIn(t, data, "person")
		if len(v) == 0 || v[len(v)-1].Version != "2" || v[len(v)-1].Model != fileSum(t, dir+"/next.tflite") {
			t.Errorf("%s has %+v", data, v)
		}
	}
}

// A version that is pushed to be made live answers in the place of the one that
// the configuration names, and the push ends with that.
func TestPushActivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, err := os.ReadFile(testkit.Shared(t, "models/hello_world_float.tflite"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	m.SetMeta("trained", []byte("again"))
	next, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	addr := testkit.Mosquitto(t, "")
	config, data := fetcher(t, "hall-7", addr, "infer: {delegate: builtin}\nmodels: {sine: {file: "+write(t, dir, "sine.tflite", string(b))+", output: regression}}\n")
	start(t, "run", "--config", config).Line(` ready `)
	said := pushed(t, 0, "-b", addr, "-g", "hall-7", "--activate", bundleOf(t, "sine", "2", write(t, dir, "next.tflite", string(next)), nil))
	if !strings.Contains(said, "hall-7: live") {
		t.Error(said)
	}
	s := openStore(t, data)
	if st, err := s.State(); err != nil || st.Models["sine"] == nil || st.Models["sine"].Live != "2" || st.Models["sine"].Previous != "0" {
		t.Errorf("%+v, %v", st.Models["sine"], err)
	}
}

// What a push left that was killed before it offered anything, or before it cleared,
// goes with the next push of the model, or with --clear; what another one needs
// stays, and so does what another model's left.
func TestPushKilled(t *testing.T) {
	t.Parallel()
	addr := testkit.Mosquitto(t, "")
	file, next := testkit.Shared(t, "models/vww_96_float.tflite"), testkit.Shared(t, "models/hello_world_float.tflite")
	killed := func(name string) {
		t.Helper()
		p := start(t, "model", "push", "-b", addr, "-g", "hall-9", "--name", name, "--rate", "20", file)
		c, err := link.Connect(t.Context(), link.Config{URL: addr, ClientID: "counter"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		came := make(chan string, 1000)
		if err := c.Subscribe(t.Context(), []string{"models/#"}, 1, func(m link.Msg) {
			if len(m.Payload) > 0 && !strings.HasPrefix(m.Topic, "models/pushed/") {
				came <- m.Topic
			}
		}); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			select {
			case <-came:
			case <-time.After(time.Minute):
				t.Fatal("no chunk came")
			}
		}
		p.Kill()
	}
	ended := func(name string) (chunks int) { // of pushes that the index names
		t.Helper()
		all := retainedAll(t, addr)
		for topic, payload := range all {
			if !strings.HasPrefix(topic, "models/pushed/"+name+"/") {
				continue
			}
			o, err := offer.Parse(payload)
			if err != nil {
				t.Fatal(err)
			}
			for chunk := range o.Chunks() {
				if all[chunk] != nil {
					chunks++
				}
			}
		}
		return chunks
	}
	killed("person")
	if n := ended("person"); n < 5 {
		t.Fatalf("%d chunks are left", n)
	}
	pushed(t, 0, "-b", addr, "-g", "hall-8", "--name", "other", "--detach", next)
	if n := ended("person"); n < 5 {
		t.Errorf("what a push of another model is not about is gone: %d chunks are left", n)
	}
	pushed(t, 0, "-b", addr, "-g", "hall-9", "--name", "person", "--detach", next)
	if n, m := ended("person"), ended("other"); n != 1 || m != 1 { // the same chunk, of both
		t.Errorf("%d and %d chunks are left", n, m)
	}
	pushed(t, 0, "-b", addr, "--clear", "other")
	if n := ended("person"); n != 1 {
		t.Errorf("what person needs is gone: %d", n)
	}
	// One that was killed when its offers were cleared, and its chunks were not.
	c, err := link.Connect(t.Context(), link.Config{URL: addr, ClientID: "clear"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Publish(t.Context(), link.Msg{Topic: "gateways/hall-9/models/offers/person", QoS: 1, Retain: true}); err != nil {
		t.Fatal(err)
	}
	if said := pushed(t, 0, "-b", addr, "--clear", "person"); said != "person: what was left by a push that was ended before it was done is cleared\n" {
		t.Error(said)
	}
	if left := retained(t, addr); len(left) > 0 {
		t.Errorf("left at the broker: %v", left)
	}
}

// A broker that lets nobody look into the index, or keeps none, takes a push all
// the same.
func TestPushNoIndex(t *testing.T) {
	t.Parallel()
	acl := write(t, t.TempDir(), "acl", "topic readwrite gateways/#\ntopic write models/#\ntopic deny models/pushed/#\n")
	addr := testkit.Mosquitto(t, "user root\nacl_file "+acl+"\n") // where it is root it reads it as another user else
	said := pushed(t, 0, "-b", addr, "-g", "hall-9", "--detach", testkit.Shared(t, "models/hello_world_float.tflite"))
	if !strings.Contains(said, "hello_world_float waits at the broker for hall-9") {
		t.Error(said)
	}
	if said := pushed(t, 0, "-b", addr, "--clear", "hello_world_float"); said != "hello_world_float is offered no more to 1 gateway\n" {
		t.Error(said)
	}
}

// Ctrl-C leaves what is at the broker, and says how to take it away.
func TestPushStopped(t *testing.T) {
	addr := testkit.Mosquitto(t, "")
	p := start(t, "model", "push", "-b", addr, "-g", "hall-9", "--chunks", "16k,4k", "--rate", "1000", testkit.Shared(t, "models/kws_ref_model.tflite"))
	p.Line(`^kws_ref_model, whole: \d+ bytes, in \d+ chunks of 16384, or \d+ chunks of 4096$`)
	p.Signal(syscall.SIGINT)
	if code := p.Exit(); code != 0 || !strings.Contains(p.Output(), "stopped waiting: kws_ref_model waits at the broker for hall-9; to take it away: ") {
		t.Errorf("exit code %d: %s", code, p.Output())
	}
	if left := retained(t, addr); !slices.Contains(left, "gateways/hall-9/models/offers/kws_ref_model") || len(left) < 10 {
		t.Errorf("left at the broker: %v", left)
	}
}

// A command line that is not right is told so, with the flag's name.
func TestPushUsage(t *testing.T) {
	sine := testkit.Shared(t, "models/hello_world_float.tflite")
	bundle := bundleOf(t, "sine", "2", sine, nil)
	text := write(t, t.TempDir(), "text.tflite", "this is a text")
	nobody := testkit.FreeAddr(t)
	for _, tt := range []struct {
		code int
		want string
		args []string
	}{
		{2, "--gateway names who shall have it", []string{sine}},
		{2, "takes FILE, 0 arguments are given", []string{"-g", "a"}},
		{2, `"a/#" is no topic`, []string{"-g", "a/#", sine}},
		{2, "does not say where the gateway's name stands", []string{"-g", "a", "--prefix", "x", sine}},
		{2, "--chunks: 5000 stands before 3000", []string{"-g", "a", "--chunks", "5000,3000", sine}},
		{2, `--chunks: "big" is no size`, []string{"-g", "a", "--chunks", "big", sine}},
		{2, `--until: "soon" is none of 14d`, []string{"-g", "a", "--until", "soon", sine}},
		{2, "is over already", []string{"-g", "a", "--until", "2020-01-31", sine}},
		{2, "a bundle is pushed under its own name", []string{"-g", "a", "--name", "cosine", bundle}},
		{2, "--name gives another", []string{"-g", "a", "--name", "a b", sine}},
		{2, "--rate -1 is negative", []string{"-g", "a", "--rate", "-1", sine}},
		{3, "text.tflite: not a valid .tflite file", []string{"-g", "a", text}},
		{3, "no such file", []string{"-g", "a", text + "x"}},
		{1, "nobody listens there", []string{"-g", "a", "-b", nobody, sine}},
	} {
		if said := pushed(t, tt.code, tt.args...); !strings.Contains(said, tt.want) {
			t.Errorf("%v: %s", tt.args, said)
		}
	}
}

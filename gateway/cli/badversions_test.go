package cli_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edgegateway/infer/model"
	"edgegateway/infer/store"
	"edgegateway/internal/keyfile"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// written is a model as our writer writes it.
func written(t *testing.T, m *model.Model) []byte {
	t.Helper()
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func row(name string, n int) model.Tensor {
	return model.Tensor{Name: name, Type: model.Float32, Shape: []int{1, n}}
}

// doubling gives each of four numbers twice: what it answers is known.
func doubling() *model.Model {
	return &model.Model{Version: 3, Subgraphs: []model.Subgraph{{
		Name: "main", Tensors: []model.Tensor{row("in", 4), row("out", 4)}, Inputs: []int{0}, Outputs: []int{1},
		Ops: []model.Op{{Code: "ADD", Version: 1, Inputs: []int{0, 0}, Outputs: []int{1}, Builtin: &model.AddOptions{}}},
	}}}
}

// slowly takes and gives what doubling does, through layers of a million weights.
func slowly() *model.Model {
	const n, deep = 1024, 4
	weights := func(rows, columns int) model.Tensor {
		return model.Tensor{Name: "weights", Type: model.Float32, Shape: []int{rows, columns}, Buffer: make([]byte, 4*rows*columns)}
	}
	g := model.Subgraph{Name: "main", Tensors: []model.Tensor{row("in", 4), weights(n, 4), weights(n, n), weights(4, n)}, Inputs: []int{0}}
	at := 0
	layer := func(weights, size int) {
		g.Tensors = append(g.Tensors, row(fmt.Sprint("layer", len(g.Ops)), size))
		next := len(g.Tensors) - 1
		g.Ops = append(g.Ops, model.Op{Code: "FULLY_CONNECTED", Version: 1, Inputs: []int{at, weights, -1}, Outputs: []int{next}, Builtin: &model.FullyConnectedOptions{}})
		at = next
	}
	layer(1, n)
	for range deep {
		layer(2, n)
	}
	layer(3, 4)
	g.Outputs = []int{at}
	return &model.Model{Version: 3, Subgraphs: []model.Subgraph{g}}
}

// sparse is a dense layer of many weights of which the file holds few: the
// runtime reads on behind them, and its process ends.
func sparse() *model.Model {
	const n = 8192
	q := model.Quantization{Scale: []float32{0.1}, ZeroPoint: []int64{0}}
	rows := model.SparseDim{Sparse: true, Size: n, Segments: make([]int32, n+1), Indices: []int32{0}}
	for i := range n {
		rows.Segments[1+i] = 1
	}
	of := func(name string, shape ...int) model.Tensor {
		return model.Tensor{Name: name, Type: model.Int8, Shape: shape, Quant: q}
	}
	weights := of("weights", n, n)
	weights.Buffer, weights.Sparsity = []byte{1}, &model.Sparsity{Traversal: []int{0, 1}, Dims: []model.SparseDim{{Size: n}, rows}}
	return &model.Model{Version: 3, Subgraphs: []model.Subgraph{{
		Name: "main", Tensors: []model.Tensor{of("in", 1, n), weights, of("out", 1, n)}, Inputs: []int{0}, Outputs: []int{2},
		Ops: []model.Op{{Code: "FULLY_CONNECTED", Version: 4, Inputs: []int{0, 1, -1}, Outputs: []int{2}, Builtin: &model.FullyConnectedOptions{}}},
	}}}
}

// signer makes bundles of the model "double".
type signer struct {
	dir string
	key ed25519.PrivateKey
}

func newSigner(t *testing.T, dir, name string) (s signer, public string) {
	t.Helper()
	private, pub, _, err := keyfile.New()
	if err != nil {
		t.Fatal(err)
	}
	s.dir = dir
	if s.key, err = keyfile.ReadPrivate(write(t, dir, name+".pem", string(private))); err != nil {
		t.Fatal(err)
	}
	return s, write(t, dir, name+".pub", string(pub))
}

// bundle writes a bundle with parts beside the model, which change may change
// together with the manifest.
func (s signer) bundle(t *testing.T, version string, data []byte, change func(m *store.Manifest, parts map[string][]byte)) string {
	t.Helper()
	parts := map[string][]byte{"model.tflite": data}
	m := store.Manifest{Format: store.Format, Name: "double", Version: version, Model: "model.tflite", Files: map[string]store.Part{"model.tflite": store.PartOf(data)}}
	if change != nil {
		change(&m, parts)
	}
	var out bytes.Buffer
	if err := store.WriteBundle(&out, m, parts, s.key); err != nil {
		t.Fatal(err)
	}
	return write(t, s.dir, "double-"+version+store.Ext, out.String())
}

// answers puts a golden input into a bundle: what is to come of 1, 2, 3, 4.
func answers(to ...float32) func(*store.Manifest, map[string][]byte) {
	numbers := func(v ...float32) (b []byte) {
		for _, x := range v {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		return b
	}
	return func(m *store.Manifest, parts map[string][]byte) {
		parts["in.bin"], parts["out.bin"] = numbers(1, 2, 3, 4), numbers(to...)
		for _, name := range []string{"in.bin", "out.bin"} {
			m.Files[name] = store.PartOf(parts[name])
		}
		m.Golden = []store.Golden{{Inputs: []string{"in.bin"}, Outputs: []string{"out.bin"}}}
	}
}

// bombed puts 64 MiB of zeros into the place of a part of a bundle, whose header
// says as before how much it unpacks to.
func bombed(t *testing.T, file, part string) string {
	t.Helper()
	old, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	var out, packed bytes.Buffer
	deflate, err := flate.NewWriter(&packed, flate.BestSpeed)
	if err == nil {
		_, err = deflate.Write(make([]byte, 64<<20))
	}
	if err == nil {
		err = deflate.Close()
	}
	z := zip.NewWriter(&out)
	for _, f := range old.File {
		if err == nil && f.Name != part {
			err = z.Copy(f)
			continue
		}
		h := f.FileHeader
		h.Flags, h.CompressedSize64 = 0, uint64(packed.Len())
		w, wrong := z.CreateRaw(&h)
		if wrong == nil {
			_, wrong = w.Write(packed.Bytes())
		}
		err = errors.Join(err, wrong)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return write(t, filepath.Dir(file), filepath.Base(file), out.String())
}

// live is a stream that is published to all the time, from two sources, one
// message after the answer to the one before.
type live struct {
	stop     context.CancelFunc
	end      sync.WaitGroup
	answered [2]atomic.Int64
}

// keepAlive begins: each message must be answered, in order, rightly, and by
// that version.
func keepAlive(t *testing.T, broker, version string) *live {
	t.Helper()
	l := &live{}
	ctx, stop := context.WithCancel(t.Context())
	l.stop = stop
	for k := range l.answered {
		source := fmt.Sprint("c", k)
		conn, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + broker, ClientID: source})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		came := newInbox(t, conn, "results/s/"+source)
		l.end.Go(func() {
			pace := time.NewTicker(5 * time.Millisecond) // leave the box something
			defer pace.Stop()
			for n := 1; ctx.Err() == nil; n++ {
				x := float64(n % 1000)
				msg := fmt.Appendf(nil, `{"a":%v,"b":1,"c":2,"d":3,"n":%d}`, x, n)
				if err := conn.Publish(t.Context(), link.Msg{Topic: "x/" + source, Payload: msg, QoS: 1}); err != nil {
					t.Errorf("message %d of %s: %v", n, source, err)
					return
				}
				var r struct {
					Seq     int
					Version string
					Values  []float64
				}
				select {
				case m := <-came.msgs:
					if err := json.Unmarshal(m.Payload, &r); err != nil || r.Seq != n || r.Version != version || len(r.Values) != 4 || r.Values[0] != 2*x || r.Values[3] != 6 {
						t.Errorf("the answer to message %d of %s is %s", n, source, m.Payload)
						return
					}
				case <-time.After(time.Minute):
					t.Errorf("no answer to message %d of %s for a minute", n, source)
					return
				}
				l.answered[k].Add(1)
				<-pace.C
			}
		})
	}
	return l
}

// goesOn waits until each source has had one more answer.
func (l *live) goesOn(t *testing.T) {
	t.Helper()
	for k := range l.answered {
		was := l.answered[k].Load()
		for late := time.Now().Add(time.Minute); l.answered[k].Load() == was; time.Sleep(time.Millisecond) {
			if time.Now().After(late) || t.Failed() {
				t.Fatalf("the stream stands still after %d answers", was)
			}
		}
	}
}

// Versions that are bad each in its own way are handed to a gateway that works:
// by command, through its inbox, from the cloud. Each is refused by name, and
// the version that is live answers every message meanwhile, in order and right.
// All but two are signed by the one key that the gateway trusts.
func TestBadVersions(t *testing.T) {
	t.Parallel()
	dir, local, cloud := t.TempDir(), testkit.FreeAddr(t), testkit.Mosquitto(t, "")
	box, data := filepath.Join(dir, "inbox"), filepath.Join(dir, "data")
	if err := os.Mkdir(box, 0o700); err != nil {
		t.Fatal(err)
	}
	factory, public := newSigner(t, dir, "factory")
	other, _ := newSigner(t, dir, "other")
	nobody := signer{dir: dir}
	good := written(t, doubling())
	config := write(t, dir, "hall.yaml", fmt.Sprintf(`
gateway: hall-7
data: %s
broker: {listeners: [{tcp: %q}]}
dashboard: {listen: ""}
infer: {delegate: builtin}
models: {double: {file: %s, output: regression}}
streams: {s: {topics: [x/+], input: {json: [a, b, c, d], seq: n}, model: double}}
store: {keys: [%s], require_signed: true, inbox: %s}
rollout: {watch: 0s, preflight: {calls: 20, patience: 1s, eager: true}}
upstream: {cloud: {url: "tcp://%s", retry_min: 20ms, retry_max: 100ms}}
`, data, local, write(t, dir, "double.tflite", string(good)), public, box, cloud))
	gateway := start(t, "run", "--config", config)
	gateway.Line(" ready ")
	done(t, "", "model", "add", "--config", config, factory.bundle(t, "3", good, func(m *store.Manifest, parts map[string][]byte) {
		answers(2, 4, 6, 8)(m, parts)
		m.Minimum = "2"
	}))
	done(t, "", "model", "activate", "--config", config, "double@3")
	s := openStore(t, data)
	state := func() *store.ModelState { return stateOf(t, s, "double") }

	random := make([]byte, 5000)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	flipped := bytes.Clone(good)
	for i := 8; i < len(flipped)/2; i++ {
		flipped[i] ^= 0x55
	}
	endless, err := os.ReadFile(filepath.Join(testkit.Root(t), "infer/model/testdata/troubled/while_endless.tflite"))
	if err != nil {
		t.Fatal(err)
	}
	crashing := written(t, sparse())
	cut := factory.bundle(t, "10", good, nil)
	if err := os.Truncate(cut, 600); err != nil {
		t.Fatal(err)
	}
	const command, inbox, push = "`model add`, `activate`", "inbox", "`model push`"
	cases := []struct {
		name, how, file string
		by, words       string
	}{
		{"bundle cut short", command, cut, "store", "damaged: "},
		{"truncated model", inbox, factory.bundle(t, "11", good[:len(good)/2], nil), "store", "damaged: model: not a valid .tflite file"},
		{"random bytes", command, factory.bundle(t, "12", random, nil), "store", "damaged: model: not a valid .tflite file"},
		{"flipped tables", command, factory.bundle(t, "13", flipped, nil), "store", "damaged: model: not a valid .tflite file"},
		{"wrong golden answers", push, factory.bundle(t, "14", good, answers(2, 4, 6, 9)), "pre-flight", "golden answers: "},
		{"much slower", command, factory.bundle(t, "15", written(t, slowly()), nil), "pre-flight", "10 times is too slow where no limit is named"},
		{"endless loop", push, factory.bundle(t, "16", endless, nil), "pre-flight", "no crash: it gives no answer"},
		{"crashes the runtime", inbox, factory.bundle(t, "17", crashing, nil), "store", "sparse int8 weights"},
		{"unsigned", push, nobody.bundle(t, "18", good, nil), "store", "not signed"},
		{"wrong key", inbox, other.bundle(t, "19", good, nil), "store", "signed with a key that is not trusted"},
		{"below the minimum", push, factory.bundle(t, "1.9", good, nil), "store", "older than "},
		{"zip bomb", command, bombed(t, factory.bundle(t, "20", good, func(m *store.Manifest, parts map[string][]byte) {
			parts["labels.txt"] = []byte("a\nb\n")
			m.Labels, m.Files["labels.txt"] = "labels.txt", store.PartOf(parts["labels.txt"])
		}), "labels.txt"), "store", "labels.txt unpacks to more than 4 bytes"},
	}
	stream := keepAlive(t, local, "3")
	stream.goesOn(t)
	before := *state()
	table := []string{"| version | handed over by | refused by | in these words |", "|---|---|---|---|"}
	for _, c := range cases {
		said := ""
		switch c.how {
		case command:
			got := run(t, "", "model", "add", "--config", config, c.file)
			if got.code == 0 {
				ref, _, _ := strings.Cut(got.stdout, ",")
				got = run(t, "", "model", "activate", "--config", config, ref)
			}
			if said = got.stderr; got.code != 3 {
				t.Errorf("%s: exit code %d, not 3", c.name, got.code)
			}
		case inbox:
			if err := os.Rename(c.file, filepath.Join(box, filepath.Base(c.file))); err != nil {
				t.Fatal(err)
			}
			said = gateway.Line(`refused from the inbox .*` + regexp.QuoteMeta(filepath.Base(c.file)) + `.*`)[0]
		case push:
			said = pushed(t, 1, "-b", cloud, "-g", "hall-7", "--activate", c.file)
		}
		at := strings.Index(said, c.words)
		if at < 0 {
			t.Errorf("%s: no %q in %s", c.name, c.words, said)
			continue
		}
		stream.goesOn(t)
		after := *state()
		for _, v := range after.Versions {
			if v.Version != "0" && v.Version != "3" && (v.Stage != store.Failed || c.by == "store" && strings.Contains(c.file, v.Version+store.Ext)) {
				t.Errorf("%s: the store has %+v", c.name, v)
			}
		}
		after.Versions = before.Versions
		if was, is := fmt.Sprintf("%+v", before), fmt.Sprintf("%+v", after); was != is {
			t.Errorf("%s: the state was %s and is %s", c.name, was, is)
		}
		line, _, _ := strings.Cut(said[at:], "\n")
		line, _, _ = strings.Cut(line, `" file=`) // of the log
		table = append(table, fmt.Sprintf("| %s | %s | %s | %.140s |", c.name, c.how, c.by, line))
	}

	// What the store refuses so that it never runs, run past the check.
	file := write(t, dir, "crashing.tflite", string(crashing))
	got := run(t, "", "model", "preflight", "--unchecked", "--eager", "--live", filepath.Join(dir, "double.tflite"), file)
	if _, why, ok := strings.Cut(got.stderr, "no crash: "); !ok || got.code != 3 || !strings.Contains(why, "it ended its process") {
		t.Errorf("a crash of the child: %+v", got)
	} else {
		table = append(table, fmt.Sprintf("| the same, run past the check | `model preflight` | pre-flight | no crash: %.100s |", strings.TrimSpace(why)))
	}
	stream.goesOn(t)

	stream.stop()
	stream.end.Wait()
	if said := gateway.Output(); strings.Contains(said, " ERR ") {
		t.Error("the gateway has errors")
	}
	interrupt(t, gateway)
	t.Logf("\n%s\n\nversion 3 answered %d messages of two sources meanwhile, each right and in order",
		strings.Join(table, "\n"), stream.answered[0].Load()+stream.answered[1].Load())
}

package fl

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"edgegateway/fl/aggregate"
)

// keyOf is a key pair that is the same each time.
func keyOf(name string) ed25519.PrivateKey {
	sum := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(sum[:])
}

func publicOf(name string) ed25519.PublicKey { return keyOf(name).Public().(ed25519.PublicKey) }

// noise is a body that zstd cannot make shorter.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8(sha256.Sum256([]byte{byte(seed)}))
	_, _ = r.Read(b)
	return b
}

func smallTask() *Task {
	t := DefaultTask()
	t.Name, t.Model.Preset, t.Model.Input, t.Model.Classes = "digits", "mlp", []int{8}, []string{"a", "b", "c"}
	t.Data.Stream = "camera"
	return &t
}

func do(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSealAndOpen(t *testing.T) {
	key := keyOf("press7")
	body := noise(250_000, 1)
	list, err := Seal(Header{Kind: KindUpdate, Task: "digits-1", Round: 3, Base: Hash{1}, Seq: 9, From: "press7"}, body, 0, key)
	do(t, err)
	if len(list) != 3 {
		t.Fatalf("%d messages", len(list))
	}
	find := Enrolled(KeyMap{"press7": publicOf("press7")})
	c, err := NewCollector(NewMemory(), "in/", 1<<20, 4)
	do(t, err)
	for _, i := range []int{2, 0, 2, 1} {
		if list[i].Topic != "fl/digits-1/from/press7/update" || list[i].Retain {
			t.Fatalf("it goes to %s", list[i].Topic)
		}
		p, err := Open(list[i], find)
		do(t, err)
		whole, err := c.Add(p)
		do(t, err)
		if (whole != nil) != (i == 1) || whole != nil && !bytes.Equal(whole, body) {
			t.Fatalf("after chunk %d: %d bytes", i, len(whole))
		}
		if i == 0 && !slices.Equal(c.Have(&p.Header), []int{0, 2}) {
			t.Fatalf("there are %v", c.Have(&p.Header))
		}
	}
}

func TestTaskAndWeights(t *testing.T) {
	task := smallTask()
	do(t, task.Validate())
	b, err := task.Encode()
	do(t, err)
	id, err := task.ID()
	do(t, err)
	again, sameID, err := DecodeTask(b)
	do(t, err)
	if b2, _ := again.Encode(); id != sameID || !bytes.Equal(b, b2) {
		t.Fatalf("the task %s came back as %s", id, sameID)
	}
	n, err := task.Network()
	do(t, err)
	w, err := FromNetwork(n)
	do(t, err)
	layout, count, err := LayoutOf(n)
	do(t, err)
	body, err := w.Encode()
	do(t, err)
	got, err := DecodeWeights(body, layout, count)
	do(t, err)
	if got.Hash() != w.Hash() || !slices.Equal(got.Values, w.Values) {
		t.Fatal("other weights came back")
	}
	got.Values[0] += 1
	do(t, got.Into(n))
	if w2, _ := FromNetwork(n); w2.Hash() != got.Hash() || w2.Hash() == w.Hash() {
		t.Fatal("the network has other weights")
	}
	delta, _, err := aggregate.Encode(task.Compression, got.Values, nil, 1)
	do(t, err)
	body, err = Pack(Update{Samples: 10, Delta: delta})
	do(t, err)
	u, d, err := DecodeUpdate(body, count)
	do(t, err)
	if u.Samples != 10 || !slices.Equal(d, got.Values) {
		t.Fatal("another update came back")
	}
}

// A loss that nobody reckoned is no loss of 0 to who reads a status; on the wire it
// is 0, as all keys stand there.
func TestMetricsWithoutLoss(t *testing.T) {
	for _, c := range []struct {
		m    Metrics
		want string
	}{
		{Metrics{Samples: 9, Accuracy: 0.75}, `{"samples":9,"accuracy":0.75}`},
		{Metrics{Samples: 9, Loss: 0.5, Accuracy: -1}, `{"samples":9,"loss":0.5,"accuracy":-1}`},
	} {
		text, err := json.Marshal(Outcome{New: c.m})
		do(t, err)
		if !strings.Contains(string(text), `"new":`+c.want+`,`) {
			t.Errorf("%+v is told as %s", c.m, text)
		}
		var back Outcome
		if do(t, json.Unmarshal(text, &back)); back.New != c.m {
			t.Errorf("%s is read as %+v", text, back.New)
		}
		b, err := marshal(c.m)
		do(t, err)
		keys := map[int]float64{}
		if do(t, unmarshal(b, &keys)); len(keys) != 3 || keys[2] != c.m.Loss {
			t.Errorf("on the wire it is %v", keys)
		}
	}
}

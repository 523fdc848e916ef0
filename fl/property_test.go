package fl

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"edgegateway/infer/train"
)

// In whatever order parts come, however often, and whatever restarts lie
// between: the same body comes out, once all were there, and Have says what
// lacks until then.
func TestAnyOrder(t *testing.T) {
	find := Enrolled(KeyMap{"press7": publicOf("press7")})
	rapid.Check(t, func(t *rapid.T) {
		body := noise(rapid.IntRange(1, 30_000).Draw(t, "bytes"), 5)
		list, err := Seal(Header{Kind: KindUpdate, Task: "t", Seq: 3, From: "press7"}, body, rapid.IntRange(MinChunk, 9000).Draw(t, "chunk"), keyOf("press7"))
		if err != nil {
			t.Fatal(err)
		}
		st := NewMemory()
		restart := func() *Collector {
			st = st.Clone()
			c, err := NewCollector(st, "in/", 1<<20, 3)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		c := restart()
		seen := map[int]bool{}
		var header *Header
		order := append(rapid.SliceOfN(rapid.IntRange(0, len(list)-1), 0, 3*len(list)).Draw(t, "first"), rapid.Permutation(numbers(len(list))).Draw(t, "then")...)
		whole := []byte(nil)
		for _, i := range order {
			if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
				c = restart()
			}
			p, err := Open(list[i], find)
			if err != nil {
				t.Fatal(err)
			}
			header = &p.Header
			seen[i] = true
			got, err := c.Add(p)
			if err != nil {
				t.Fatal(err)
			}
			if (got != nil) != (len(seen) == len(list)) {
				t.Fatalf("with %d of %d parts the body is there: %v", len(seen), len(list), got != nil)
			}
			if have := c.Have(header); !slices.Equal(have, slices.Sorted(maps.Keys(seen))) || len(Missing(have, len(list)))+len(have) != len(list) {
				t.Fatalf("there are %v, it says %v", seen, have)
			}
			whole = got
		}
		if !bytes.Equal(whole, body) {
			t.Fatal("another body came out")
		}
		if err := c.Drop(header); err != nil {
			t.Fatal(err)
		}
		if left, err := st.List(""); err != nil || len(left) != 0 || len(c.Open()) != 0 {
			t.Fatalf("left are %v, %v", left, err)
		}
	})
}

func numbers(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// Any byte of a message that is another one, any that is missing or too many,
// and any other topic: it is refused, by a name.
func TestAnyByte(t *testing.T) {
	list, coordinator, gateway := samples(t)
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.SampledFrom(list).Draw(t, "message")
		payload := slices.Clone(m.Payload)
		at := rapid.IntRange(0, len(payload)-1).Draw(t, "at")
		switch rapid.IntRange(0, 3).Draw(t, "how") {
		case 0:
			payload[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		case 1:
			payload = slices.Delete(payload, at, at+1)
		case 2:
			payload = slices.Insert(payload, at, rapid.Byte().Draw(t, "byte"))
		case 3:
			elsewhere := func(o Message) bool { return o.Topic != m.Topic }
			m.Topic = rapid.SampledFrom(list).Filter(elsewhere).Draw(t, "other").Topic
		}
		for _, find := range []Find{coordinator, gateway} {
			if _, err := Open(Message{Topic: m.Topic, Payload: payload}, find); ReasonOf(err) == "" {
				t.Fatalf("byte %d of a %s: %v", at, m.Topic, err)
			}
		}
	})
}

// What numbers of chunks can be is what some length of chunks gives.
func TestChunkNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := Header{Bytes: rapid.IntRange(1, 120).Draw(t, "bytes"), Chunks: rapid.IntRange(1, 12).Draw(t, "chunks")}
		h.Chunk = rapid.IntRange(0, h.Chunks-1).Draw(t, "chunk")
		n := rapid.IntRange(0, 130).Draw(t, "n")
		want, found := 0, false
		for size := 1; size <= h.Bytes; size++ {
			if (h.Bytes+size-1)/size != h.Chunks {
				continue
			}
			if part := min(size, h.Bytes-h.Chunk*size); part == n {
				if h.Chunks == 1 {
					size = n
				}
				want, found = size, true
				break
			}
		}
		if got, ok := h.size(n); ok != found || found && got != want {
			t.Fatalf("chunk %d of %d with %d of %d bytes: %d, %v; there is %d, %v", h.Chunk, h.Chunks, n, h.Bytes, got, ok, want, found)
		}
	})
}

// Finite weights come back to the last bit, and no others come through.
func TestAnyWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.SliceOfN(rapid.Uint32(), 1, 200).Draw(t, "bits")
		w := &Weights{Layout: Hash{9}}
		for _, b := range bits {
			w.Values = append(w.Values, math.Float32frombits(b))
		}
		body, err := w.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeWeights(body, w.Layout, len(bits))
		if notFinite(w.Values) >= 0 {
			if ReasonOf(err) != NotFinite {
				t.Fatalf("weights with a NaN: %v", err)
			}
			return
		}
		if err != nil || got.Hash() != w.Hash() || !bytes.Equal(floatBytes(got.Values), floatBytes(w.Values)) {
			t.Fatalf("other weights came back: %v", err)
		}
		for _, n := range []int{len(bits) - 1, len(bits) + 1} {
			if _, err := DecodeWeights(body, w.Layout, n); ReasonOf(err) != BadWeights {
				t.Fatalf("%d weights as %d: %v", len(bits), n, err)
			}
		}
		if _, err := DecodeWeights(body, Hash{8}, len(bits)); ReasonOf(err) != BadWeights {
			t.Fatalf("another layout: %v", err)
		}
	})
}

// A folder does what memory does, also after it was opened anew.
func TestStates(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	name := rapid.SampledFrom([]string{"a", "b", "a.x/b", "a.x/c", "rounds/1/g", "rounds/2/g", "rounds/2/h", "..", "", "a/../b", "/x", "x/", "a b", "x.new"})
	rapid.Check(t, func(t *rapid.T) {
		runs++
		path := filepath.Join(dir, fmt.Sprint(runs))
		open := func() State {
			d, err := NewDir(path)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		both := []State{NewMemory(), open()}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			n, data := name.Draw(t, "name"), rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "data")
			prefix := rapid.SampledFrom([]string{"", "a", "a.x/", "rounds/2", "rounds/", "none/", "a.x/b"}).Draw(t, "prefix")
			do := rapid.SampledFrom([]string{"put", "put", "get", "delete", "list", "open"}).Draw(t, "do")
			var out [2]string
			for i, st := range both {
				switch do {
				case "put":
					out[i] = fmt.Sprint(st.Put(n, data))
				case "get":
					got, err := st.Get(n)
					out[i] = fmt.Sprintf("%x %v %v", got, got == nil, err)
				case "delete":
					out[i] = fmt.Sprint(st.Delete(n))
				case "list":
					got, err := st.List(prefix)
					out[i] = fmt.Sprint(got, err)
				}
			}
			if do == "open" {
				both[1] = open()
			}
			if out[0] != out[1] {
				t.Fatalf("%s %q: memory says %s, the folder %s", do, n, out[0], out[1])
			}
		}
	})
}

// Numbers of a sender grow, whatever the clock does and however often it starts
// anew.
func TestCounter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := NewMemory()
		var c *Counter
		last := uint64(0)
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			if i == 0 || rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
				var err error
				if c, err = NewCounter(st, "seq"); err != nil {
					t.Fatal(err)
				}
			}
			n, err := c.Next(time.UnixMilli(rapid.Int64Range(-1000, 1<<42).Draw(t, "now")))
			if err != nil || n <= last {
				t.Fatalf("%d after %d: %v", n, last, err)
			}
			last = n
		}
	})
}

// However often and quickly a sender starts anew, it is no more than a second and
// what it said ahead of the clock: with a state that is lost then, it is newer
// again as soon as they have passed.
func TestCounterLostState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st, last, said := NewMemory(), uint64(0), 0
		now := time.UnixMilli(1_800_000_000_000)
		for range rapid.IntRange(1, 300).Draw(t, "restarts") {
			c, err := NewCounter(st, "seq")
			if err != nil {
				t.Fatal(err)
			}
			// A process says no more than one number in two milliseconds here.
			n := rapid.IntRange(0, 4).Draw(t, "numbers")
			for range n {
				if last, err = c.Next(now); err != nil {
					t.Fatal(err)
				}
			}
			said += n
			now = now.Add(time.Duration(rapid.IntRange(2*n, 200).Draw(t, "milliseconds")) * time.Millisecond)
		}
		lost, err := NewCounter(NewMemory(), "seq")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := lost.Next(now.Add(2 * time.Second)); err != nil || n <= last {
			t.Fatalf("%d after %d, %d numbers: %v", n, last, said, err)
		}
	})
}

// putCount is a State that counts what is put.
type putCount struct {
	State
	puts int
}

func (c *putCount) Put(name string, data []byte) error {
	c.puts++
	return c.State.Put(name, data)
}

// A burst is few writes, also right after a start with a clock that was set back.
func TestCounterBurst(t *testing.T) {
	st := &putCount{State: NewMemory()}
	now := time.UnixMilli(1_800_000_000_000)
	for _, set := range []time.Duration{0, 0, -time.Hour} {
		c, err := NewCounter(st, "seq")
		do(t, err)
		st.puts = 0
		for range 10_000 {
			_, err := c.Next(now.Add(set))
			do(t, err)
		}
		if st.puts > 25 {
			t.Errorf("clock %v: 10000 numbers are written down %d times", set, st.puts)
		}
	}
}

func trainNorm(n int) *train.Norm {
	norm := &train.Norm{Mean: make([]float32, n), Std: make([]float32, n)}
	for i := range n {
		norm.Mean[i], norm.Std[i] = float32(i), float32(i+1)
	}
	return norm
}

// A changed task is another task.
func TestTaskID(t *testing.T) {
	seen := map[string]string{}
	for name, change := range map[string]func(*Task){
		"nothing": func(*Task) {}, "rounds": func(t *Task) { t.Rounds++ }, "class": func(t *Task) { t.Model.Classes = []string{"a", "b", "d"} },
		"rate": func(t *Task) { t.Local.Optimizer.Rate *= 1.0000001 }, "seed": func(t *Task) { t.Seed++ }, "deadline": func(t *Task) { t.Deadline = time.Nanosecond },
		"norm": func(t *Task) { t.Model.Norm = trainNorm(8) }, "quorum": func(t *Task) { t.Cohort.Quorum++ },
	} {
		task := smallTask()
		change(task)
		id, err := task.ID()
		do(t, err)
		if seen[id] != "" || CheckName(id) != nil {
			t.Errorf("%s gives the id of %s, %s", name, seen[id], id)
		}
		seen[id] = name
	}
}

// Keys of the other side, of nobody, and of another gateway are not found.
func TestFind(t *testing.T) {
	enrolled := Enrolled(KeyMap{"a": publicOf("a"), "b": publicOf("b")})
	trusted := Trusted([]ed25519.PublicKey{publicOf("c"), publicOf("d")})
	for _, c := range []struct {
		find     Find
		from, of string
		want     bool
	}{
		{enrolled, "a", "a", true}, {enrolled, "a", "b", false}, {enrolled, "", "a", false}, {enrolled, "x", "a", false},
		{trusted, "", "c", true}, {trusted, "", "d", true}, {trusted, "", "a", false}, {trusted, "c", "c", false},
	} {
		id := fmt.Sprintf("%x", idOf(keyOf(c.of)))
		if k, ok := c.find(c.from, id); ok != c.want || ok && !k.Equal(publicOf(c.of)) {
			t.Errorf("key of %s for %q: %v", c.of, c.from, ok)
		}
	}
}

package offer

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var sum = strings.Repeat("0123456789abcdef", 4)

func good() Offer {
	return Offer{ID: "1", Name: "digits", Version: "2", Model: sum, Then: Activate, Until: time.Unix(1e9, 0).UTC(),
		Files: []File{{SHA256: sum, Bytes: 100_000, Topic: "models/" + sum, Chunks: []int{96 << 10, 32 << 10, 8 << 10}}}}
}

// What is wrong with an offer is said by the field's name.
func TestParse(t *testing.T) {
	o := good()
	got, err := Parse(Encode(o))
	if err != nil || !bytes.Equal(Encode(got), Encode(o)) {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, tt := range []struct {
		change func(*Offer)
		want   string
	}{
		{func(o *Offer) { o.ID = "" }, "id: "},
		{func(o *Offer) { o.Name = "../etc" }, "name: "},
		{func(o *Offer) { o.Name = ".." }, "name: "},
		{func(o *Offer) { o.Name = strings.Repeat("n", 65) }, "name: "},
		{func(o *Offer) { o.Version = "1/2" }, "version: "},
		{func(o *Offer) { o.Model = sum[1:] }, "model: "},
		{func(o *Offer) { o.Model = strings.ToUpper(sum) }, "model: "},
		{func(o *Offer) { o.Then = "reboot" }, `then: "reboot" is neither`},
		{func(o *Offer) { o.Files = nil }, "files: there are 0"},
		{func(o *Offer) { o.Files = make([]File, 9) }, "files: there are 9"},
		{func(o *Offer) { o.Files[0].SHA256 = "x" }, "files[0].sha256: "},
		{func(o *Offer) { o.Files[0].Base = "x" }, "files[0].base: "},
		{func(o *Offer) { o.Files[0].Topic = "models/other" }, "files[0].topic: "},
		{func(o *Offer) { o.Files[0].Topic = "models/#/" + sum }, "files[0].topic: "},
		{func(o *Offer) { o.Files[0].Topic = "$SYS/" + sum }, "files[0].topic: "},
		{func(o *Offer) { o.Files[0].Chunks = nil }, "files[0].chunks: there are 0"},
		{func(o *Offer) { o.Files[0].Chunks = []int{100} }, "files[0].chunks: 100 is not in"},
		{func(o *Offer) { o.Files[0].Chunks = []int{MaxMessage} }, "files[0].chunks: 131072 is not in"},
		{func(o *Offer) { o.Files[0].Chunks = []int{5000, 2000} }, "files[0].chunks: 5000 stands before 2000"},
		{func(o *Offer) { o.Files[0].Bytes = 0 }, "files[0].bytes: 0 is not in"},
		{func(o *Offer) { o.Files[0].Bytes = 1 << 40 }, "files[0].bytes: 1099511627776 is not in"},
	} {
		o := good()
		tt.change(&o)
		if _, err := Parse(Encode(o)); err == nil || !strings.HasPrefix(err.Error(), "offer: "+tt.want) {
			t.Errorf("said %v, want %s", err, tt.want)
		}
	}
	if _, err := Parse(bytes.Repeat([]byte(" "), MaxBytes+1)); err == nil || !strings.Contains(err.Error(), "bytes are over") {
		t.Errorf("of a long one: %v", err)
	}
	if _, err := ParseReport([]byte(`{"id":"1"}`)); err == nil {
		t.Error("a report without a state is read")
	}
}

// Chunks of each size make up the file, and each fits a message with its topic.
func TestChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := good().Files[0]
		f.Bytes = rapid.Int64Range(1, 1<<22).Draw(t, "bytes")
		f.Topic = strings.Repeat("t", maxTopic-65) + "/" + sum
		f.Chunks = slices.Clone(rapid.SampledFrom([][]int{{MaxChunk}, {120 << 10, 40 << 10, 8 << 10}, {2048, 1024}}).Draw(t, "sizes"))
		if err := f.validate(); err != nil {
			t.Fatal(err)
		}
		for _, size := range f.Chunks {
			n, sum := f.Count(size), int64(0)
			for i := range n {
				length := f.Length(size, i)
				if length < 1 || length > size || length+len(f.ChunkTopic(size, i))+16 > MaxMessage {
					t.Fatalf("chunk %d of %d is %d bytes long", i, size, length)
				}
				sum += int64(length)
			}
			if sum != f.Bytes {
				t.Fatalf("%d chunks of %d make %d of %d bytes", n, size, sum, f.Bytes)
			}
		}
	})
}

func TestDone(t *testing.T) {
	for _, tt := range []struct {
		state, then string
		want        bool
	}{
		{Got, Keep, true}, {Got, Activate, false}, {"trying", Activate, false}, {Live, Activate, true},
		{Failed, Rollout, true}, {Refused, Keep, true}, {Waiting, Keep, false}, {Wanted, Activate, false}, {Retired, Rollout, true}, {Withdrawn, Rollout, true}, {Fetching, Keep, false},
	} {
		if r := (&Report{State: tt.state}); r.Done(tt.then) != tt.want {
			t.Errorf("%s, %q: %v", tt.state, tt.then, !tt.want)
		}
	}
}

// Whatever comes over the wire gives an offer that holds its limits, or an error.
func FuzzOffer(f *testing.F) {
	o := good()
	f.Add(Encode(o))
	o.Files = append(o.Files, o.Files[0])
	o.Files[0].Base = sum
	f.Add(Encode(o))
	f.Add([]byte(`{"id":"a","name":"b","files":[{"chunks":[0]}]}`))
	f.Add(Encode(Report{ID: "1", State: Fetching, Bytes: 1, Of: 2}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if r, err := ParseReport(payload); err == nil {
			r.Done(Keep)
		}
		o, err := Parse(payload)
		if err != nil {
			return
		}
		again, err := Parse(Encode(o))
		if err != nil || !bytes.Equal(Encode(again), Encode(o)) {
			t.Fatalf("%s comes back as %s, %v", Encode(o), Encode(again), err)
		}
		for _, f := range o.Files {
			for _, size := range f.Chunks {
				if n := f.Count(size); n < 1 || n > maxUnits || f.Length(size, n-1) < 1 || !json.Valid(payload) {
					t.Fatalf("%d chunks of %d in %s", n, size, payload)
				}
			}
		}
	})
}

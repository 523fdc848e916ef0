package pipeline

import (
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgegateway/broker"
	"edgegateway/sensors"
)

// One payload holds many readings of two axes: each counts as a reading with
// its own time, and every window that it fills is a result with its own id.
func TestManyReadingsInOnePayload(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Topics, cfg.Workers = []string{"v/+"}, 1
	cfg.Input.Raw, cfg.Input.Channels, cfg.Input.Rate = "i16le", []string{"x", "y"}, 1000
	cfg.Window = &sensors.WindowConfig{Size: "4", Every: "2"}
	cfg.Features = []string{"mean", "last"}
	p, k, stop := start(t, map[string]Config{"v": cfg})
	payload := func(from, n int) []byte {
		var b []byte
		for i := from; i < from+n; i++ {
			b = binary.LittleEndian.AppendUint16(b, uint16(i))
			b = binary.LittleEndian.AppendUint16(b, uint16(-i))
		}
		return b
	}
	received := time.Unix(1000, 0)
	for from := 0; from < 20; from += 10 {
		p.Handle(broker.Message{Topic: "v/m", Payload: payload(from, 10), Received: received})
		received = received.Add(10 * time.Millisecond)
	}
	p.Handle(broker.Message{Topic: "v/m", Payload: []byte{1, 2, 3}, Received: received})
	stop()
	type result struct {
		ID       string
		Seq      int
		Time     time.Time
		Features map[string]float64
	}
	var got []result
	for _, js := range k.jsons {
		var r result
		if err := json.Unmarshal([]byte(js), &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	var want []result
	for i, id := range []string{"1", "1.1", "1.2", "1.3", "2", "2.1", "2.2", "2.3", "2.4"} {
		last := float64(3 + 2*i)
		want = append(want, result{
			ID: "v/m/5-" + id, Seq: 1 + i/4 - i/8, Time: time.Unix(1000, 0).Add(time.Duration(last-9) * time.Millisecond).UTC(),
			Features: map[string]float64{"x.mean": last - 1.5, "y.mean": 1.5 - last, "x.last": last, "y.last": -last},
		})
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if s := p.Status()[0]; s.In != 3 || s.Drops["wrong_length"] != 1 || s.Drops["window_reset"] != 0 {
		t.Errorf("%+v", s)
	}
}

// An empty array has no reading to put into a window.
func TestEmptyPayloadOfMany(t *testing.T) {
	cfg := numbers("v")
	cfg.Input.JSON = []string{"v[*]"}
	cfg.Window = &sensors.WindowConfig{Size: "4"}
	p, k, stop := start(t, map[string]Config{"v": cfg})
	p.Handle(msg("v", `{"v":[]}`))
	p.Handle(msg("v", `{"v":[1,2]}`))
	stop()
	if s := p.Status()[0]; s.Drops["wrong_length"] != 1 || len(k.jsons) != 0 {
		t.Errorf("%+v, %v", s, k.jsons)
	}
}

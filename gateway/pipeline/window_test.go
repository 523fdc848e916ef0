package pipeline

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
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

// Payloads of many readings come a little early or late, and times in them are
// rounded: neither is a jump back in time. A real one is.
func TestPayloadsThatOverlap(t *testing.T) {
	for name, c := range map[string]struct {
		time   string
		starts []float64 // milliseconds: of arrival, or in the payload
		resets uint64
	}{
		"arrival":     {"", []float64{0, 9.2, 20, 29.5, 40, 41, 60}, 0},
		"in payload":  {"t", []float64{0, 9.2, 20, 29.5, 40, 50, 60}, 0},
		"a jump back": {"t", []float64{0, 10, 20, 5, 15, 25, 35}, 1},
	} {
		cfg := DefaultConfig()
		cfg.Topics, cfg.Workers = []string{"v"}, 1
		cfg.Input.JSON, cfg.Input.Channels, cfg.Input.Rate, cfg.Input.Time = []string{"v[*]"}, []string{"x"}, 1000, c.time
		cfg.Window = &sensors.WindowConfig{Size: "20"}
		cfg.Features = []string{"mean", "band:490-510"}
		p, k, stop := start(t, map[string]Config{"v": cfg})
		for _, ms := range c.starts {
			at := 1000 + ms/1000
			payload := fmt.Sprintf(`{"v":[1,-1,1,-1,1,-1,1,-1,1,-1],"t":%f}`, at)
			if c.time == "" {
				at += 0.009 // it comes with its last reading
			}
			p.Handle(broker.Message{Topic: "v", Payload: []byte(payload), Received: time.UnixMicro(int64(at * 1e6))})
		}
		stop()
		if n := p.Status()[0].Drops["window_reset"]; n != c.resets || len(k.jsons) < 2 {
			t.Errorf("%s: %d windows begun anew, want %d; %d results", name, n, c.resets, len(k.jsons))
		}
		var last time.Time
		for _, js := range k.jsons {
			var r struct {
				Time     time.Time
				Features map[string]float64
			}
			if err := json.Unmarshal([]byte(js), &r); err != nil {
				t.Fatal(err)
			}
			if c.resets == 0 && r.Time.Before(last) {
				t.Errorf("%s: a window of %v after one of %v", name, r.Time, last)
			}
			last = r.Time
			// The rate is the one of the configuration, not the one that
			// jittering times make: the wave stays in its band.
			if e := r.Features["x.band_490_510"]; e < 0.9 {
				t.Errorf("%s: the band of the wave has %v", name, e)
			}
		}
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

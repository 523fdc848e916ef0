package pipeline

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/sensors"
)

// tape is a recorder that remembers.
type tape struct {
	mu   sync.Mutex
	list []string
}

func (t *tape) Record(r *Result, input []float64) {
	at := func(x time.Time) string {
		if x.IsZero() {
			return "-"
		}
		return x.UTC().Format("05")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, fmt.Sprintf("%s %s..%s %v", r.Source, at(r.Begin), at(r.Time), input))
}

// every: 10s keeps a sample of each source and lets ten seconds go by, by the
// broker's clock; one that was set back does not stop it. A window tells when
// its first reading was.
func TestRecordEvery(t *testing.T) {
	plain := numbers("plain/+")
	plain.Record = &RecordConfig{Every: "10s", MaxSamples: 10, MaxBytes: 1 << 20}
	window := numbers("window/+")
	window.Window = &sensors.WindowConfig{Size: "4", Every: "2"}
	window.Record = &RecordConfig{Every: "2", MaxSamples: 10, MaxBytes: 1 << 20}
	var got tape
	p, err := New(map[string]Config{"plain": plain, "window": window}, noModels{}, &kept{}, nil, &got, nil, func() (uint64, error) { return 1, nil }, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	send := func(topic string, second, value int) {
		p.Handle(broker.Message{Topic: topic, Payload: fmt.Appendf(nil, `{"v":%d}`, value), Received: time.Unix(int64(second), 0)})
	}
	for _, s := range []int{0, 4, 9, 10, 19, 21, 22, 5, 6, 15} { // 5: the clock was set back
		send("plain/a", s, s)
	}
	send("plain/b", 3, 3)
	for s := range 12 {
		send("window/a", s, s)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.list)
	want := []string{
		"a -..00 [0]", "a -..05 [5]", "a -..10 [10]", "a -..15 [15]", "a -..21 [21]",
		"a 00..03 [0 1 2 3]", "a 04..07 [4 5 6 7]", "a 08..11 [8 9 10 11]",
		"b -..03 [3]",
	}
	if !slices.Equal(got.list, want) {
		t.Errorf("kept:\n%q\nwant:\n%q", got.list, want)
	}
}

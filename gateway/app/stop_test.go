package app

import (
	"fmt"
	"sync"
	"testing"

	"edgegateway/internal/link"
)

// A clean stop in full traffic drops nothing that was acknowledged: after
// the restart every such message has its result at the cloud.
func TestCleanStopLosesNothing(t *testing.T) {
	cloud := begin(t, t.TempDir(), "cloud", "")
	up := cloud.tapped("gateways/edge/results/#")
	dir := t.TempDir()
	const config = "streams: {room: {topics: [room/+/climate], input: {json: [v], seq: n}, queue: 16, workers: 1}}\n"
	var mu sync.Mutex
	acked := map[string]bool{}
	sent := 0
	for round := range 3 {
		g := begin(t, dir, "edge", config+cloudOf(cloud.url))
		var clients sync.WaitGroup
		for p := range 8 {
			c := g.client(fmt.Sprint("p", p))
			clients.Go(func() {
				// Many in flight at once, until the broker goes.
				type flight struct {
					token *link.Token
					key   string
				}
				queue := make(chan flight, 64)
				var waits sync.WaitGroup
				waits.Go(func() {
					for f := range queue {
						select {
						case <-f.token.Done():
						case <-c.Done():
							// It may have been acknowledged at the last moment.
							select {
							case <-f.token.Done():
							default:
								continue
							}
						}
						if f.token.Err() == nil {
							mu.Lock()
							acked[f.key] = true
							mu.Unlock()
						}
					}
				})
				for n := 0; c.Err() == nil; n++ {
					seq := round*1_000_000 + n + 1
					topic := fmt.Sprintf("room/%d/climate", p)
					queue <- flight{c.Send(link.Msg{Topic: topic, Payload: fmt.Appendf(nil, `{"v":%d,"n":%d}`, n, seq), QoS: 1}), fmt.Sprintf("%d-%d", p, seq)}
					mu.Lock()
					sent++
					mu.Unlock()
				}
				close(queue)
				waits.Wait()
			})
		}
		until(t, "traffic", func() bool { mu.Lock(); defer mu.Unlock(); return len(acked) > 800*(round+1) })
		g.stop()
		clients.Wait()
		if d := g.pipe.Status()[0].Drops; len(d) > 0 {
			t.Errorf("drops: %v", d)
		}
	}
	begin(t, dir, "edge", config+cloudOf(cloud.url)) // sends what was left
	missing := func() (n int) {
		arrived := map[string]bool{}
		for _, m := range up.all() {
			r := decode[result](t, m.Payload)
			arrived[fmt.Sprintf("%s-%d", r.Source, r.Seq)] = true
		}
		for key := range acked {
			if !arrived[key] {
				n++
			}
		}
		return n
	}
	until(t, "all results", func() bool { return missing() == 0 })
	t.Logf("%d sent, %d acknowledged", sent, len(acked))
}

package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// runSteady publishes at four fifths of the full rate for a long while, QoS 1, and
// says each minute what the gateway has of memory and goroutines; at the end,
// whether a result came for every message.
func (b *bench) runSteady(ctx context.Context, out io.Writer, s *server, payload []byte) error {
	const clients = 4
	full, err := s.measure(ctx, payload, clients, 1, b.length, 0)
	if err != nil {
		return err
	}
	rate := full.rate * 0.8
	fmt.Fprintf(out, "full rate %.0f/s, so %.0f/s at QoS 1 from %d clients for %v\n\n", full.rate, rate, clients, b.steady)

	sub, err := dialBench(ctx, s.url, "bench-sub")
	if err != nil {
		return err
	}
	defer sub.close()
	var results atomic.Int64
	waiting := make([]chan struct{}, clients) // messages on their way, bounded
	for i := range waiting {
		waiting[i] = make(chan struct{}, 4096)
	}
	if err := sub.subscribe(s.out+"#", 1, func(topic, _ []byte) {
		if i, err := strconv.Atoi(strings.TrimPrefix(string(topic), s.out+"steady-")); err == nil && i < clients {
			<-waiting[i]
			results.Add(1)
		}
	}); err != nil {
		return err
	}
	run, stop := context.WithTimeout(ctx, b.steady)
	defer stop()
	var sent atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		c, err := dialBench(ctx, s.url, fmt.Sprintf("bench-pub-%d", i))
		if err != nil {
			return err
		}
		defer c.close()
		again, flush := c.publisher(s.in+"steady-"+strconv.Itoa(i), payload, 1)
		wg.Go(func() { errs[i] = pace(run, rate/clients, waiting[i], &sent, again, flush) })
	}
	fmt.Fprintf(out, "%8s%10s%9s%12s%10s\n", "minute", "msg/s", "RSS MB", "goroutines", "waiting")
	s.report(ctx, out, 0, 0, 0)
	began, before, minute := time.Now(), int64(0), 0
	for run.Err() == nil {
		sleep(run, time.Minute)
		minute++
		n := results.Load()
		s.report(ctx, out, minute, float64(n-before)/time.Since(began).Seconds(), sent.Load()-n)
		began, before = time.Now(), n
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	for limit := time.Now().Add(10 * time.Second); results.Load() < sent.Load() && time.Now().Before(limit); {
		sleep(ctx, 10*time.Millisecond)
	}
	fmt.Fprintf(out, "\npublished %d, results %d, lost %d\n", sent.Load(), results.Load(), sent.Load()-results.Load())
	for _, line := range s.counted(ctx, "_dropped_total{", "_cut_total{", "_refused_total{") {
		fmt.Fprintln(out, line)
	}
	if sent.Load() != results.Load() {
		return fmt.Errorf("%d of %d messages gave no result", sent.Load()-results.Load(), sent.Load())
	}
	return ctx.Err()
}

// pace publishes at a rate, a few each millisecond, until ctx ends. waiting
// bounds what is on its way; nil: again does.
func pace(ctx context.Context, rate float64, waiting chan<- struct{}, sent *atomic.Int64, again, flush func() error) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, n := time.Now(), 0.0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return flush()
		}
		due := time.Since(began).Seconds() * rate
		if due-n > rate { // it was held up for over a second: the rest is not made up for
			n = due - rate
		}
		for ; n < due; n++ {
			if waiting == nil { // again waits by itself
				if err := again(); err != nil {
					return err
				}
				continue
			}
			select {
			case waiting <- struct{}{}:
			default: // the gateway is behind
				if err := flush(); err != nil {
					return err
				}
				select {
				case waiting <- struct{}{}:
				case <-ctx.Done():
					return flush()
				}
			}
			sent.Add(1)
			if err := again(); err != nil {
				return err
			}
		}
		if err := flush(); err != nil {
			return err
		}
	}
}

func (s *server) report(ctx context.Context, out io.Writer, minute int, rate float64, waiting int64) {
	fmt.Fprintf(out, "%8d%10.0f%9.1f%12.0f%10d\n", minute, rate, s.rss(), s.metric(ctx, "go_goroutines"), waiting)
}

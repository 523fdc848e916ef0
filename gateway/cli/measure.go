package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edgegateway/internal/link"
)

// measured is one measurement.
type measured struct {
	rate     float64 // results a second
	p50, p99 time.Duration
	cpu      float64 // CPU seconds of the server per million messages
}

func median(list []measured) measured {
	pick := func(of func(measured) float64) float64 {
		v := make([]float64, len(list))
		for i, m := range list {
			v[i] = of(m)
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return measured{
		rate: pick(func(m measured) float64 { return m.rate }),
		p50:  time.Duration(pick(func(m measured) float64 { return float64(m.p50) })),
		p99:  time.Duration(pick(func(m measured) float64 { return float64(m.p99) })),
		cpu:  pick(func(m measured) float64 { return m.cpu }),
	}
}

// settle waits until a first result comes and the models' trials are over,
// and gives the length of a result.
func (s *server) settle(ctx context.Context, payload []byte) (size int, err error) {
	limit := time.After(60 * time.Second)
	for {
		m, err := s.measure(ctx, payload, 1, 1, 200*time.Millisecond, 100)
		if err != nil {
			return 0, err
		}
		status, err := fetchStatus(s.web)
		if err != nil {
			return 0, err
		}
		tried := true
		for _, model := range status.Models {
			tried = tried && !model.Trying
		}
		if m.rate > 0 && tried {
			return int(s.size()), nil
		}
		select {
		case <-limit:
			return 0, fmt.Errorf("no result within 60 s")
		case <-ctx.Done():
			return 0, ctx.Err()
		default:
		}
	}
}

var lastSize atomic.Int64

func (s *server) size() int64 { return lastSize.Load() }

// perPublisher is how many messages of one publisher may be on their way.
const perPublisher = 256

// measure publishes from n clients for a while and counts what comes back.
// With rate 0 each client has as many messages on the way as perPublisher
// allows, otherwise they send at that rate together.
func (s *server) measure(ctx context.Context, payload []byte, n int, qos byte, length time.Duration, rate int) (measured, error) {
	sub, err := link.Connect(ctx, link.Config{URL: s.url, ClientID: "bench-sub"})
	if err != nil {
		return measured{}, err
	}
	defer sub.Close()
	type lane struct {
		sent chan time.Time // of messages on their way; results come in order
	}
	lanes := make([]lane, n)
	for i := range lanes {
		lanes[i].sent = make(chan time.Time, perPublisher)
	}
	var counting atomic.Bool
	var results int64
	var took []time.Duration
	err = sub.Subscribe(ctx, []string{s.out + "#"}, qos, func(m link.Msg) {
		i, err := strconv.Atoi(strings.TrimPrefix(m.Topic, s.out))
		if err != nil || i >= n {
			return
		}
		at := <-lanes[i].sent
		lastSize.Store(int64(len(m.Payload)))
		if counting.Load() {
			results++
			took = append(took, time.Since(at))
		}
	})
	if err != nil {
		return measured{}, err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	failed := make(chan error, n)
	for i := range lanes {
		pub, err := link.Connect(ctx, link.Config{URL: s.url, ClientID: fmt.Sprintf("bench-pub-%d", i)})
		if err != nil {
			stop()
			wg.Wait()
			return measured{}, err
		}
		defer pub.Close()
		wg.Go(func() {
			var tick <-chan time.Time
			if rate > 0 {
				t := time.NewTicker(time.Second * time.Duration(n) / time.Duration(rate))
				defer t.Stop()
				tick = t.C
			}
			msg := link.Msg{Topic: s.in + strconv.Itoa(i), Payload: payload, QoS: qos}
			for {
				if tick != nil {
					select {
					case <-tick:
					case <-run.Done():
						return
					}
				}
				select {
				case lanes[i].sent <- time.Now():
				case <-run.Done():
					return
				}
				pub.Start(msg)
				if err := pub.Err(); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	warm := length / 5
	sleep(run, warm)
	cpu, begin := s.cpu(), time.Now()
	counting.Store(true)
	sleep(run, length)
	counting.Store(false)
	used, elapsed := s.cpu()-cpu, time.Since(begin).Seconds()
	stop()
	wg.Wait()
	sub.Close()
	select {
	case err := <-failed:
		return measured{}, err
	default:
	}
	m := measured{rate: float64(results) / elapsed}
	if results > 0 {
		slices.Sort(took)
		m.p50, m.p99 = took[len(took)/2], took[len(took)*99/100]
		m.cpu = used / float64(results) * 1e6
	}
	return m, ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// cpu is the seconds of processor time that the server used, 0 where the
// system does not tell.
func (s *server) cpu() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100 // USER_HZ is 100 on every Linux
}

// rss is the server's resident memory in MB.
func (s *server) rss() float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, _ := strconv.ParseFloat(strings.Fields(rest + " 0")[0], 64)
	return kb / 1000
}

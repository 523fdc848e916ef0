package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edgegateway/infer"
	"edgegateway/internal/link"
)

// measured is one measurement.
type measured struct {
	rate     float64 // results a second
	p50, p99 time.Duration
	cpu      float64 // CPU seconds of the server per million messages
	allocs   float64 // of the server per message; 0 where it does not tell
	took     []time.Duration
}

func median(list []measured) measured {
	pick := func(of func(measured) float64) float64 {
		v := make([]float64, len(list))
		for i, m := range list {
			v[i] = of(m)
		}
		return middle(v)
	}
	return measured{
		rate: pick(func(m measured) float64 { return m.rate }),
		p50:  time.Duration(pick(func(m measured) float64 { return float64(m.p50) })),
		p99:  time.Duration(pick(func(m measured) float64 { return float64(m.p99) })),
		cpu:  pick(func(m measured) float64 { return m.cpu }),

		allocs: pick(func(m measured) float64 { return m.allocs }),
	}
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// tried waits until the trials of the models are over.
func (s *server) tried(ctx context.Context) error {
	limit := time.After(2 * time.Minute)
	for {
		status, err := readStatus(ctx, s.web)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(status.Models, func(m infer.ModelStatus) bool { return m.Trying }) {
			return nil
		}
		select {
		case <-limit:
			return errors.New("the trial of the delegates does not end")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// first publishes one message and waits for its result.
func (s *server) first(ctx context.Context, payload []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("no result within a minute"))
	defer cancel()
	conn, err := link.Connect(ctx, link.Config{URL: s.url, ClientID: "bench-first"})
	if err != nil {
		return err
	}
	defer conn.Close()
	result := make(chan struct{}, 1)
	if err := conn.Subscribe(ctx, []string{s.out + "#"}, 1, func(link.Msg) {
		select {
		case result <- struct{}{}:
		default:
		}
	}); err != nil {
		return err
	}
	if err := conn.Publish(ctx, link.Msg{Topic: s.in + "0", Payload: payload, QoS: 1}); err != nil {
		return err
	}
	select {
	case <-result:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// settle waits until a first result comes and gives its length and the
// delegate that serves.
func (s *server) settle(ctx context.Context, payload []byte) (size int, delegate string, err error) {
	limit := time.After(60 * time.Second)
	for {
		m, err := s.measure(ctx, payload, 1, 1, 200*time.Millisecond, 100)
		if err != nil {
			return 0, "", err
		}
		status, err := readStatus(ctx, s.web)
		if err != nil {
			return 0, "", err
		}
		for _, model := range status.Models {
			delegate = model.Delegate
		}
		if m.rate > 0 {
			return int(lastSize.Load()), delegate, nil
		}
		select {
		case <-limit:
			return 0, "", fmt.Errorf("no result within 60 s")
		case <-ctx.Done():
			return 0, "", ctx.Err()
		default:
		}
	}
}

var lastSize atomic.Int64 // of a result, in bytes

// perPublisher is how many messages of one publisher may be on their way: a
// bounded number of bytes, so that a picture does not wait behind minutes of
// others.
func perPublisher(payload int) int { return max(2, min(256, 512<<10/max(payload, 1))) }

// measure publishes from n clients for a while and counts what comes back.
// With rate 0 each client has as many messages on the way as perPublisher
// allows, otherwise they send at that rate together.
func (s *server) measure(ctx context.Context, payload []byte, n int, qos byte, length time.Duration, rate int) (measured, error) {
	sub, err := dialBench(ctx, s.url, "bench-sub")
	if err != nil {
		return measured{}, err
	}
	defer sub.close()
	type lane struct {
		sent chan time.Time // of messages on their way; results come in order
	}
	lanes := make([]lane, n)
	for i := range lanes {
		lanes[i].sent = make(chan time.Time, perPublisher(len(payload)))
	}
	var counting atomic.Bool
	var mu sync.Mutex // a result may yet be on its way in when the measuring ends
	var took []time.Duration
	some := make(chan struct{}) // closed by the first that counts
	// Names of its own: what is left of the measurement before is not counted.
	s.calls++
	name := fmt.Sprintf("%d-", s.calls)
	err = sub.subscribe(s.out+"#", qos, func(topic, payload []byte) {
		i, err := strconv.Atoi(strings.TrimPrefix(string(topic), s.out+name))
		if err != nil || i >= n {
			return
		}
		at := <-lanes[i].sent
		lastSize.Store(int64(len(payload)))
		mu.Lock()
		defer mu.Unlock()
		if counting.Load() {
			if took = append(took, time.Since(at)); len(took) == 1 {
				close(some)
			}
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
		pub, err := dialBench(ctx, s.url, fmt.Sprintf("bench-pub-%d", i))
		if err != nil {
			stop()
			wg.Wait()
			return measured{}, err
		}
		defer pub.close()
		again, flush := pub.publisher(s.in+name+strconv.Itoa(i), payload, qos)
		wg.Go(func() {
			var tick <-chan time.Time
			if rate > 0 {
				t := time.NewTicker(time.Second * time.Duration(n) / time.Duration(rate))
				defer t.Stop()
				tick = t.C
			}
			for {
				if tick != nil {
					select {
					case <-tick:
					case <-run.Done():
						return
					}
				}
				// As many as may be on their way in one write.
				select {
				case lanes[i].sent <- time.Now():
				default:
					if err := flush(); err != nil {
						failed <- err
						return
					}
					select {
					case lanes[i].sent <- time.Now():
					case <-run.Done():
						return
					}
				}
				err := again()
				if err == nil && rate > 0 {
					err = flush()
				}
				if err != nil {
					failed <- err
					return
				}
				if run.Err() != nil {
					return
				}
			}
		})
	}
	warm := length / 5
	sleep(run, warm)
	cpu, mallocs, begin := s.cpu(), s.mallocs(ctx), time.Now()
	counting.Store(true)
	sleep(run, length)
	select { // what gives a result in a longer time yet is measured too
	case <-some:
	case <-run.Done():
	case <-time.After(10 * time.Second):
	}
	mu.Lock()
	counting.Store(false)
	results := len(took)
	mu.Unlock()
	used, elapsed := s.cpu()-cpu, time.Since(begin).Seconds()
	mallocs = s.mallocs(ctx) - mallocs
	stop()
	wg.Wait()
	sub.close()
	select {
	case err := <-failed:
		return measured{}, err
	default:
	}
	m := measured{rate: float64(results) / elapsed}
	if results > 0 {
		slices.Sort(took)
		m.took = took
		m.p50, m.p99 = took[len(took)/2], took[len(took)*99/100]
		m.cpu = used / float64(results) * 1e6
		m.allocs = mallocs / float64(results)
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
func (s *server) cpu() (seconds float64) {
	for _, pid := range s.pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) < 13 {
			continue
		}
		user, _ := strconv.ParseFloat(f[11], 64)
		system, _ := strconv.ParseFloat(f[12], 64)
		seconds += (user + system) / 100 // USER_HZ is 100 on every Linux
	}
	return seconds
}

// rss is the server's resident memory in MB.
func (s *server) rss() (mb float64) {
	for _, pid := range s.pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), "VmRSS:")
		kb, _ := strconv.ParseFloat(strings.Fields(rest + " 0")[0], 64)
		mb += kb / 1000
	}
	return mb
}

// mallocs is how many objects the server has allocated, by its metrics.
func (s *server) mallocs(ctx context.Context) float64 {
	return s.metric(ctx, "go_memstats_mallocs_total")
}

// metric is a plain number of the server's metrics, 0 where it does not tell.
func (s *server) metric(ctx context.Context, name string) (v float64) {
	s.metrics(ctx, func(line string) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			v, _ = strconv.ParseFloat(text, 64)
		}
	})
	return v
}

// counted are the lines of metrics that hold one of these words and no 0.
func (s *server) counted(ctx context.Context, words ...string) (list []string) {
	s.metrics(ctx, func(line string) {
		if !strings.HasPrefix(line, "#") && !strings.HasSuffix(line, " 0") && slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
			list = append(list, line)
		}
	})
	return list
}

// metrics hands out the lines of the server's metrics.
func (s *server) metrics(ctx context.Context, line func(string)) {
	if s.web == "" {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.web+"/metrics", nil)
	if err != nil {
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line(lines.Text())
	}
}

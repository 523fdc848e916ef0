package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/infer/store"
)

func swapsCommand() *cobra.Command {
	b := swapBench{bench: bench{numbered: true, json: true}}
	cmd := &cobra.Command{
		Use:   "swaps A B",
		Short: "Exchange two versions of a model again and again under load, and count what is lost",
		Long: `Exchange two versions of a model again and again under load, QoS 1, and count
what is lost, what no version answered, and what came out of order. In turn, a
while without swaps and a while with them are measured.`,
		Example: "  edgegateway bench swaps hello_world_float.tflite hello_world_int8.tflite --swaps 200 --rate 5000",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			b.model, b.second = args[0], args[1]
			if b.swaps < 1 || b.rounds < 1 || b.rate < 1 {
				return &exitError{exitUsage, fmt.Errorf("--swaps, --rounds and --rate are 1 at least")}
			}
			return b.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.output, "output", "auto", "what their outputs mean, as in the configuration")
	f.IntVar(&b.swaps, "swaps", 200, "swaps in all")
	f.IntVar(&b.rate, "rate", 5000, "messages a second")
	f.IntVar(&b.rounds, "rounds", 4, "rounds, without swaps and with them in turn")
	f.DurationVar(&b.length, "seconds", 10*time.Second, "length of a round without swaps")
	return cmd
}

// swapBench counts what becomes of messages while versions are exchanged.
type swapBench struct {
	bench
	second string
	swaps  int

	mu      sync.Mutex
	took    [2][]time.Duration // without swaps, and with them
	by      map[string]int     // results by version
	changes int                // of the version from one result of a source to the next
	neither int                // results that no version signs
	order   int                // results that came before their predecessor, or twice
}

const swapClients = 4

// swapLane is one source: its messages are numbered from 1 on.
type swapLane struct {
	sent  chan time.Time // of messages on their way
	last  uint64         // the number of the last result
	by    string         // the version of the last result
	count atomic.Uint64  // messages
}

func (b *swapBench) run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "edgegateway-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	payload, err := b.payload()
	if err != nil {
		return err
	}
	if b.raw != "f32le" {
		return fmt.Errorf("%s: its input takes no real numbers", b.model)
	}
	s, err := b.startGateway(ctx, filepath.Join(dir, "gateway"))
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.tried(ctx); err != nil {
		return err
	}
	versions, err := store.Open(store.Dir(filepath.Join(dir, "gateway", "data")), store.DefaultConfig())
	if err != nil {
		return err
	}
	defer versions.Close()
	if _, err := versions.Add(ctx, "m@1", b.second, "bench"); err != nil {
		return err
	}
	if err := swapTo(ctx, versions, store.Want{Version: "1", Do: store.DoActivate, Force: true}); err != nil {
		return err
	}
	if err := s.tried(ctx); err != nil {
		return err
	}

	b.by = map[string]int{}
	lanes := make([]swapLane, swapClients)
	sub, err := dialBench(ctx, s.url, "bench-sub")
	if err != nil {
		return err
	}
	defer sub.close()
	var counted atomic.Int32 // the kind of round
	if err := sub.subscribe(s.out+"#", 1, func(topic, payload []byte) {
		b.result(lanes, string(bytes.TrimPrefix(topic, []byte(s.out))), payload, int(counted.Load()))
	}); err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, swapClients)
	for i := range lanes {
		lanes[i].sent = make(chan time.Time, 4096)
		c, err := dialBench(ctx, s.url, fmt.Sprintf("bench-pub-%d", i))
		if err != nil {
			return err
		}
		defer c.close()
		wg.Go(func() { errs[i] = lanes[i].publish(run, c, s.in+strconv.Itoa(i), payload, float64(b.rate)/swapClients) })
	}
	done := 0
	for round := range b.rounds {
		counted.Store(0)
		sleep(ctx, b.length)
		counted.Store(1)
		for ; done < b.swaps*(round+1)/b.rounds && ctx.Err() == nil; done++ {
			if err := swapTo(ctx, versions, store.Want{Do: store.DoRollback}); err != nil {
				return fmt.Errorf("swap %d: %w", done+1, err)
			}
		}
	}
	stop()
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return b.report(ctx, out, s, lanes, done)
}

// swapTo says what is wanted and waits until it is so.
func swapTo(ctx context.Context, s *store.Store, w store.Want) error {
	w.By = "bench"
	if err := s.Want("m", w); err != nil {
		return err
	}
	for limit := time.Now().Add(30 * time.Second); ; sleep(ctx, 5*time.Millisecond) {
		st, err := s.State()
		if err != nil {
			return err
		}
		m := st.Models["m"]
		for _, v := range m.Versions {
			if v.Stage == store.Failed {
				return fmt.Errorf("version %s: %s", v.Version, v.Why)
			}
		}
		if m.Want == nil {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(limit) {
			return fmt.Errorf("version %s does not become live: %w", m.Want.Version, context.Cause(ctx))
		}
	}
}

// publish sends numbered messages at a rate until ctx ends.
func (l *swapLane) publish(ctx context.Context, c *benchClient, topic string, payload []byte, rate float64) error {
	const digits = "0000000000"
	number := []byte(`{"n":1` + digits + `,`) // a number without zeros in front
	again, flush := c.changing(topic, append(number, payload[1:]...), 1, func(p []byte) {
		n := strconv.AppendUint(nil, l.count.Load(), 10)
		copy(p[len(number)-1-len(n):], n)
	})
	var sent atomic.Int64
	return pace(ctx, rate, nil, &sent, func() error {
		select {
		case l.sent <- time.Now():
		default: // the gateway is behind
			if err := flush(); err != nil {
				return err
			}
			select {
			case l.sent <- time.Now():
			case <-ctx.Done():
				return nil
			}
		}
		l.count.Add(1)
		return again()
	}, flush)
}

// swapBase is what the numbers of messages begin above.
const swapBase = 10_000_000_000

func (b *swapBench) result(lanes []swapLane, source string, payload []byte, kind int) {
	i, err := strconv.Atoi(source)
	if err != nil || i >= len(lanes) {
		return
	}
	l := &lanes[i]
	var r struct {
		Seq     uint64
		Version string
		Score   *float64
	}
	_ = json.Unmarshal(payload, &r) // what is none has no version
	b.mu.Lock()
	defer b.mu.Unlock()
	seq := r.Seq - swapBase
	if seq != l.last+1 {
		b.order++
	}
	l.last = seq
	if r.Version != "0" && r.Version != "1" || r.Score == nil {
		b.neither++
	}
	b.by[r.Version]++
	if l.by != "" && l.by != r.Version {
		b.changes++
	}
	l.by = r.Version
	b.took[kind] = append(b.took[kind], time.Since(<-l.sent))
}

// report waits for the last results and says what became of all.
func (b *swapBench) report(ctx context.Context, out io.Writer, s *server, lanes []swapLane, done int) error {
	sent := 0
	for i := range lanes {
		sent += int(lanes[i].count.Load())
	}
	got := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.took[0]) + len(b.took[1])
	}
	for limit := time.Now().Add(10 * time.Second); got() < sent && time.Now().Before(limit); {
		sleep(ctx, 10*time.Millisecond)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tresults\tp50 ms\tp99 ms\tmax ms\t")
	for i, name := range []string{"without", "with swaps"} {
		t := b.took[i]
		slices.Sort(t)
		if len(t) == 0 {
			continue
		}
		fmt.Fprintf(w, "%s\t%d\t%.2f\t%.2f\t%.2f\t\n", name, len(t), ms(t[len(t)/2]), ms(t[len(t)*99/100]), ms(t[len(t)-1]))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	results := len(b.took[0]) + len(b.took[1])
	fmt.Fprintf(out, "\n%d swaps, of which the sources saw %d; version 0 answered %d, version 1 %d\n", done, b.changes/len(lanes), b.by["0"], b.by["1"])
	fmt.Fprintf(out, "published %d: lost %d, answered by neither %d, out of order %d\n", sent, sent-results, b.neither, b.order)
	for _, line := range s.counted(ctx, "_dropped_total{", "_cut_total{", "_refused_total{") {
		fmt.Fprintln(out, line)
	}
	if bad := strings.TrimSpace(strings.Join([]string{
		some(sent != results, "messages are lost"), some(b.neither > 0, "some were answered by neither"), some(b.order > 0, "some came out of order"),
	}, " ")); bad != "" {
		return fmt.Errorf("%s", bad)
	}
	return ctx.Err()
}

func some(is bool, text string) string {
	if is {
		return text
	}
	return ""
}

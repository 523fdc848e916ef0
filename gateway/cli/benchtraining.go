package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/fl"
	"edgegateway/internal/keyfile"
	"edgegateway/internal/link"
)

func trainingCommand() *cobra.Command {
	b := trainingBench{}
	cmd := &cobra.Command{
		Use:   "training MODEL",
		Short: "Measure live inference with and without federated training beside it",
		Long: `Measure how long results take while the gateway trains for a federated task
beside them. A gateway in a process of its own has a stream with the model and one
that records labelled samples; a coordinator leads a task over a second broker (both
in processes that get what nobody else wants: they would run elsewhere), and
the gateway's child process trains on these samples. In turn, results are measured
outside of the hours at which it may train and within them (fl.limits.hours, changed
by a reload). What counts is the ratio, of one run.`,
		Example: "  edgegateway bench training ad01_fp32.tflite --output reconstruction --rate 500",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b.model = args[0]
			if b.rate < 1 || b.rounds < 1 || b.samples < 20 || b.epochs < 1 || b.length <= 0 {
				return &exitError{exitUsage, fmt.Errorf("--rate, --rounds and --epochs are 1 at least, --samples 20, --seconds more than 0")}
			}
			return b.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.output, "output", "auto", "what its output means, as in the configuration")
	f.IntVar(&b.rate, "rate", 1000, "messages a second")
	f.IntVar(&b.rounds, "rounds", 5, "rounds, without training and with it in turn")
	f.DurationVar(&b.length, "seconds", 5*time.Second, "length of one measurement")
	f.IntVar(&b.samples, "samples", 2000, "recorded samples that it trains on, of 784 numbers")
	f.IntVar(&b.epochs, "epochs", 40, "of a round of the task; its network is 784-200-200-10")
	f.Float64Var(&b.share, "cpu", 1, "processors that it may take, as fl.limits.cpu")
	return cmd
}

// trainingBench measures the results of one stream while the gateway learns from
// another.
type trainingBench struct {
	bench
	samples, epochs int
	share           float64
	dir             string
}

const trainingClients = 4

func (b *trainingBench) run(ctx context.Context, out io.Writer) (err error) {
	payload, err := b.payload()
	if err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "edgegateway-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	bar := progress(2*b.rounds+2, "bench", false)
	defer bar.Finish()
	cloud, err := b.startCloud(ctx)
	if err != nil {
		return err
	}
	defer cloud.stop()
	lead, err := b.prepare(cloud.url)
	if err != nil {
		return err
	}
	s, err := b.startGateway(ctx, filepath.Join(b.dir, "gateway"))
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.tried(ctx); err != nil {
		return err
	}
	if _, _, err := s.settle(ctx, payload); err != nil {
		return err
	}
	bar.Add(1)
	if err := b.feed(ctx, s.url); err != nil {
		return fmt.Errorf("the samples to train on: %w", err)
	}
	leads, err := startElsewhere(ctx, lead...)
	if err != nil {
		return err
	}
	defer leads.stop()
	if _, err := s.measure(ctx, payload, trainingClients, 1, b.length/2, b.rate); err != nil { // until caches and clocks are warm
		return err
	}
	bar.Add(1)
	var took [2][]time.Duration
	var ratios []float64
	var did trainingDone
	for range b.rounds {
		var p99 [2]time.Duration
		for k, hours := range []string{shutHours(time.Now()), ""} {
			if err := b.allow(ctx, s, hours); err != nil {
				return err
			}
			before := b.trained(ctx, s)
			m, err := s.measure(ctx, payload, trainingClients, 1, b.length, b.rate)
			if err != nil {
				return err
			}
			if k == 1 {
				did.add(b.trained(ctx, s), before)
			}
			took[k], p99[k] = append(took[k], m.took...), m.p99
			bar.Add(1)
		}
		ratios = append(ratios, float64(p99[1])/float64(max(p99[0], 1)))
	}
	bar.Clear()
	b.report(out, took, ratios, did)
	return ctx.Err()
}

// startCloud runs a broker and nothing else.
func (b *trainingBench) startCloud(ctx context.Context) (*server, error) {
	file := filepath.Join(b.dir, "cloud.yaml")
	text := fmt.Sprintf(`gateway: cloud
data: %q
log: {level: info, format: json}
broker: {listeners: [{tcp: "127.0.0.1:0"}]}
dashboard: {listen: ""}
`, filepath.Join(b.dir, "cloud"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return startElsewhere(ctx, "run", "--config", file)
}

// prepare makes keys and the task, and the part of the gateway's configuration
// that learns; it gives the command that leads the task.
func (b *trainingBench) prepare(url string) (lead []string, err error) {
	at := func(name string) string { return filepath.Join(b.dir, name) }
	enrolled := at("enrolled")
	if err := os.Mkdir(enrolled, 0o700); err != nil {
		return nil, err
	}
	for name, public := range map[string]string{at("bench.pem"): filepath.Join(enrolled, "bench.pub"), at("coordinator.pem"): at("coordinator.pub")} {
		private, key, _, err := keyfile.New()
		if err != nil {
			return nil, err
		}
		if err := errors.Join(os.WriteFile(name, private, 0o600), os.WriteFile(public, key, 0o600)); err != nil {
			return nil, err
		}
	}
	b.streams = `, press: {topics: [press/+], input: {raw: f32le}, record: {label: {topic: labels/+}}}`
	b.sections = fmt.Sprintf(`upstream: {cloud: {url: %q, send: []}}
fl: {key: %q, keys: [%q], limits: {cpu: %v, hours: [%q]}}
`, url, at("bench.pem"), at("coordinator.pub"), b.share, shutHours(time.Now()))
	task := fmt.Sprintf(`name: bench
model:
  input: [%d]
  classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
  network: {layers: [{type: dense, units: 200, activation: relu}, {type: dense, units: 200, activation: relu}, {type: dense, activation: softmax}]}
data: {stream: press, minimum: %d}
local: {epochs: %d}
rounds: 10000
`, benchFeatures, b.samples/2, b.epochs)
	file := at("bench.yaml")
	if err := os.WriteFile(file, []byte(task), 0o600); err != nil {
		return nil, err
	}
	if _, err := fl.LoadTask(file); err != nil {
		return nil, err
	}
	return []string{"fl", "coordinator", "--broker", url, "--key", at("coordinator.pem"), "--enrolled", enrolled, "--data", at("tasks"), file}, nil
}

// benchFeatures are the numbers of a sample that is trained on, as many as a
// digit has pixels.
const benchFeatures = 784

// feed publishes labelled samples: noise around a point for each class.
func (b *trainingBench) feed(ctx context.Context, url string) error {
	c, err := link.Connect(ctx, link.Config{URL: url, ClientID: "bench-samples", Timeout: time.Minute})
	if err != nil {
		return err
	}
	defer c.Close()
	var msgs []link.Msg
	for k := range 10 {
		msgs = append(msgs, link.Msg{Topic: fmt.Sprintf("labels/%d", k), Payload: fmt.Append(nil, k), QoS: 1})
	}
	if _, err := c.Window(ctx, msgs); err != nil {
		return err
	}
	msgs = msgs[:0]
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b.samples {
		var raw []byte
		for j := range benchFeatures {
			v := r.NormFloat64() * 0.3
			if j%10 == i%10 {
				v += 0.3
			}
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(v)))
		}
		msgs = append(msgs, link.Msg{Topic: fmt.Sprintf("press/%d", i%10), Payload: raw, QoS: 1})
	}
	for part := range slices.Chunk(msgs, 50) { // what is recorded faster than it is written is let fall
		if _, err := c.Window(ctx, part); err != nil {
			return err
		}
		sleep(ctx, 20*time.Millisecond)
	}
	return ctx.Err()
}

// shutHours is an hour that is far from now.
func shutHours(now time.Time) string {
	at := now.Add(6 * time.Hour)
	return at.Format("15:04") + "-" + at.Add(time.Hour).Format("15:04")
}

// allow has the gateway train at these hours alone, at any for "", and waits
// until it is so.
func (b *trainingBench) allow(ctx context.Context, s *server, hours string) error {
	file := filepath.Join(b.dir, "gateway", "bench.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, _ := strings.Cut(string(text), "hours: [")
	_, rest, _ = strings.Cut(rest, "]")
	list := ""
	if hours != "" {
		list = `"` + hours + `"`
	}
	if err := os.WriteFile(file, []byte(before+"hours: ["+list+"]"+rest), 0o600); err != nil {
		return err
	}
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	said := ""
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); sleep(ctx, 20*time.Millisecond) {
		st, err := readStatus(ctx, s.web)
		if err != nil {
			return err
		}
		if st.FL == nil {
			continue
		}
		if said = st.FL.Worker; len(st.FL.Tasks) > 0 {
			said += ", " + st.FL.Tasks[0].Line()
		}
		if hours == "" && st.FL.Worker == "working" || hours != "" && strings.HasPrefix(st.FL.Worker, "pauses until") {
			return nil
		}
	}
	return fmt.Errorf("the gateway does not come to train, or to stop: it says %q", said)
}

// trainingDone is how much was trained since the gateway began.
type trainingDone struct {
	at                              time.Time
	updates, epochs, samples        int
	elapsed, working, serving, held float64 // seconds
}

func (b *trainingBench) trained(ctx context.Context, s *server) trainingDone {
	t := trainingDone{at: time.Now()}
	s.metrics(ctx, func(line string) {
		name, value, _ := strings.Cut(line, " ")
		for state, to := range map[string]*float64{"working": &t.working, "serving": &t.serving, "share": &t.held} {
			if name == fmt.Sprintf("edgegateway_fl_child_seconds_total{state=%q}", state) {
				_, _ = fmt.Sscan(value, to)
			}
		}
	})
	if st, err := readStatus(ctx, s.web); err == nil && st.FL != nil && len(st.FL.Tasks) > 0 {
		f := &st.FL.Tasks[0]
		t.updates, t.epochs, t.samples = f.Sent, f.Sent*b.epochs+f.Epoch, f.Samples
	}
	return t
}

// add adds what was done between two times.
func (t *trainingDone) add(now, before trainingDone) {
	t.samples = now.samples
	t.updates += now.updates - before.updates
	t.epochs += now.epochs - before.epochs
	t.elapsed += now.at.Sub(before.at).Seconds()
	t.working += now.working - before.working
	t.serving += now.serving - before.serving
	t.held += now.held - before.held
}

func (b *trainingBench) report(out io.Writer, took [2][]time.Duration, ratios []float64, did trainingDone) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tresults\tp50 ms\tp99 ms\tmax ms\t")
	var p50, p99 [2]float64
	for k, name := range []string{"without training", "with training"} {
		t := took[k]
		slices.Sort(t)
		if len(t) == 0 {
			continue
		}
		p50[k], p99[k] = ms(t[len(t)/2]), ms(t[len(t)*99/100])
		fmt.Fprintf(w, "%s\t%d\t%.2f\t%.2f\t%.2f\t\n", name, len(t), p50[k], p99[k], ms(t[len(t)-1]))
	}
	fmt.Fprintf(w, "with to without\t\t%.2f x\t%.2f x\t\t\n", p50[1]/p50[0], p99[1]/p99[0])
	w.Flush()
	fmt.Fprintf(out, "\np99 with training to that without, round by round: %.2f, in the middle %.2f\n", ratios, middle(slices.Clone(ratios)))
	fmt.Fprintf(out, "while %d results a second were asked for, %d updates and %d epochs of %d samples were trained in %.1f s\n", b.rate, did.updates, did.epochs, did.samples, did.elapsed)
	part := func(seconds float64) float64 { return 100 * seconds / did.elapsed }
	fmt.Fprintf(out, "of that time the training worked %.0f %%, was stopped for what is live %.0f %%, for its share of the processor %.0f %%\n", part(did.working), part(did.serving), part(did.held))
}

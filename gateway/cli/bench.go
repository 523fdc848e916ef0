package cli

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/gateway/app"
	"edgegateway/infer/model"
)

func benchCommand(version string) *cobra.Command {
	b := bench{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the whole way on this box: client, broker, model, result, client",
		Long: `Measure the whole way on this box: a client publishes, the gateway in a process
of its own decodes, invokes and publishes the result, the client receives it.
The same broker as a plain echo is measured beside it, in turn, in the same run:
the ratio is what counts, absolute figures depend on the machine and its load.`,
		Example: `  edgegateway bench --model hello_world_float.tflite
  edgegateway bench --model ad01_fp32.tflite --output reconstruction --json --publishers 1,4,16`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if b.model == "" {
				return &exitError{exitUsage, fmt.Errorf("--model is missing: the .tflite file to measure")}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "edgegateway %s, %s, %d rounds of %v\n", version, filepath.Base(b.model), b.rounds, b.length)
			return b.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.model, "model", "", ".tflite file whose first input takes numbers")
	f.StringVar(&b.output, "output", "auto", "what its output means, as in the configuration")
	f.BoolVar(&b.json, "json", false, "numbers as JSON instead of raw")
	f.StringVar(&b.picture, "picture", "", "publish this picture instead of numbers")
	f.IntSliceVar(&b.publishers, "publishers", []int{1, 4, 16}, "publishing clients")
	f.IntSliceVar(&b.qos, "qos", []int{0, 1}, "quality of service")
	f.DurationVar(&b.length, "seconds", 3*time.Second, "length of one measurement")
	f.IntVar(&b.rounds, "rounds", 3, "rounds, echo and gateway in turn; medians are printed")
	f.IntVar(&b.rate, "rate", 1000, "messages a second for the latency at a steady rate; 0 for none")
	echo := &cobra.Command{
		Use: "echo SIZE", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := strconv.Atoi(args[0])
			if err != nil || size < 1 || size > 1<<20 {
				return &exitError{exitUsage, fmt.Errorf("%s is no size", args[0])}
			}
			return app.Echo(cmd.Context(), "127.0.0.1:0", size, func(addr string) { fmt.Println(addr) }, newLogger(app.LogConfig{Level: "warn", Format: "console"}, os.Stderr))
		},
	}
	cmd.AddCommand(echo)
	return cmd
}

// bench measures one model.
type bench struct {
	model, output, picture string
	json                   bool
	publishers, qos        []int
	length                 time.Duration
	rounds, rate           int
}

// run measures each combination, echo and gateway in turn.
func (b *bench) run(ctx context.Context) error {
	payload, err := b.payload()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "edgegateway-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	gateway, err := b.startGateway(ctx, dir)
	if err != nil {
		return err
	}
	defer gateway.stop()
	size, err := gateway.settle(ctx, payload)
	if err != nil {
		return err
	}
	echo, err := startServer(ctx, "bench", "echo", strconv.Itoa(size))
	if err != nil {
		return err
	}
	defer echo.stop()
	echo.in, echo.out = "echo/in/", "echo/out/"
	fmt.Printf("payload %d bytes, result %d bytes\n\n", len(payload), size)
	fmt.Println("qos publishers   echo/s  gateway/s  ratio   p50 ms   p99 ms  CPU s/million (echo, gateway)  RSS MB")
	for _, qos := range b.qos {
		for _, n := range b.publishers {
			var e, g []measured
			for range b.rounds {
				for _, s := range []struct {
					server *server
					into   *[]measured
				}{{echo, &e}, {gateway, &g}} {
					m, err := s.server.measure(ctx, payload, n, byte(qos), b.length, 0)
					if err != nil {
						return err
					}
					*s.into = append(*s.into, m)
				}
			}
			me, mg := median(e), median(g)
			fmt.Printf("%3d %10d %8.0f %10.0f %6.2f %8.2f %8.2f %15.1f %12.1f %8.0f\n", qos, n, me.rate, mg.rate, mg.rate/me.rate,
				ms(mg.p50), ms(mg.p99), me.cpu, mg.cpu, gateway.rss())
		}
		if b.rate > 0 {
			m, err := gateway.measure(ctx, payload, 4, byte(qos), b.length, b.rate)
			if err != nil {
				return err
			}
			fmt.Printf("%3d at %d/s: %.0f/s, p50 %.2f ms, p99 %.2f ms\n", qos, b.rate, m.rate, ms(m.p50), ms(m.p99))
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// payload is one input of the model: numbers between 0 and 1, or the picture.
func (b *bench) payload() ([]byte, error) {
	if b.picture != "" {
		return os.ReadFile(b.picture)
	}
	data, err := os.ReadFile(b.model)
	if err != nil {
		return nil, err
	}
	m, err := model.Read(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.model, err)
	}
	g := m.Main()
	n := 1
	for _, d := range g.Tensors[g.Inputs[0]].Shape {
		n *= int(d)
	}
	var raw []byte
	text := []byte(`{"v":[`)
	for i := range n {
		v := float32(math.Abs(math.Sin(float64(i + 1))))
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendFloat(text, float64(v), 'g', -1, 32)
	}
	if b.json {
		return append(text, "]}"...), nil
	}
	return raw, nil
}

// startGateway runs this program with a configuration made for the purpose.
func (b *bench) startGateway(ctx context.Context, dir string) (*server, error) {
	input := "{raw: f32le}"
	switch {
	case b.picture != "":
		input = "{image: auto}"
	case b.json:
		input = `{json: ["v[*]"]}`
	}
	file, err := filepath.Abs(b.model)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "bench.yaml")
	text := fmt.Sprintf(`gateway: bench
data: %q
log: {level: info, format: json}
broker: {listeners: [{tcp: "127.0.0.1:0"}]}
models: {m: {file: %q, output: %s}}
streams: {bench: {topics: [bench/in/+], input: %s, model: m}}
dashboard: {listen: "127.0.0.1:0"}
`, filepath.Join(dir, "data"), file, b.output, input)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s, err := startServer(ctx, "run", "--config", config)
	if err != nil {
		return nil, err
	}
	s.in, s.out = "bench/in/", "results/bench/"
	return s, nil
}

// server is a child process that is measured.
type server struct {
	cmd     *exec.Cmd
	url     string
	web     string
	in, out string
}

// startServer starts this program and waits until it says its address: the
// echo on its first line, a gateway in its log.
func startServer(ctx context.Context, args ...string) (*server, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w.Close()
	s := &server{cmd: cmd}
	found := make(chan error, 1)
	go func() {
		defer r.Close()
		in := bufio.NewScanner(r)
		var lines []string
		for in.Scan() {
			line := in.Text()
			if s.url == "" {
				lines = append(lines, line)
				if i := strings.Index(line, "tcp://127.0.0.1:"); i >= 0 {
					s.url = strings.TrimRight(strings.SplitN(line[i:], `"`, 2)[0], "] ")
					if _, rest, ok := strings.Cut(line, `"dashboard":"`); ok {
						s.web = "http://" + strings.SplitN(rest, `"`, 2)[0]
					}
					found <- nil
				}
			}
		}
		if s.url == "" {
			found <- fmt.Errorf("%s ended: %s", strings.Join(args, " "), strings.Join(lines, "\n"))
		}
	}()
	select {
	case err := <-found:
		if err != nil {
			cmd.Wait()
			return nil, err
		}
		return s, nil
	case <-ctx.Done():
		s.stop()
		return nil, ctx.Err()
	case <-time.After(20 * time.Second):
		s.stop()
		return nil, fmt.Errorf("%s: does not start within 20 s", strings.Join(args, " "))
	}
}

func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(3 * time.Second):
		s.cmd.Process.Kill()
		<-done
	}
}

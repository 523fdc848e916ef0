package cli

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"text/tabwriter"
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
the ratio is what counts, absolute figures depend on the machine and its load.
CPU s/M are the server's processor seconds a million messages, allocs its
allocations a message.`,
		Example: `  edgegateway bench --model hello_world_float.tflite
  edgegateway bench --model ad01_fp32.tflite --output reconstruction --json --publishers 1,4,16
  edgegateway bench --model vww_96_int8.tflite --picture photo.jpg --jpeg go --publishers 4`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if b.model == "" {
				return &exitError{exitUsage, fmt.Errorf("--model is missing: the .tflite file to measure")}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "edgegateway %s, %s, %d rounds of %v\n", version, filepath.Base(b.model), b.rounds, b.length)
			return b.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.model, "model", "", ".tflite file whose first input takes numbers")
	f.StringVar(&b.output, "output", "auto", "what its output means, as in the configuration")
	f.BoolVar(&b.json, "json", false, "numbers as JSON instead of raw")
	f.StringVar(&b.picture, "picture", "", "publish this picture instead of numbers")
	f.StringVar(&b.size, "size", "640x480", "size of the picture as it is published, JPEG of quality 85")
	f.StringVar(&b.jpeg, "jpeg", "auto", "who decodes JPEG: auto, or go for image/jpeg alone")
	f.StringVar(&b.peer, "peer", "", "address of another gateway to measure beside, which answers peer/in/<x> on peer/out/<x>")
	f.StringVar(&b.peerPids, "peer-pids", "", "its processes, and its broker's, whose processor time and memory count")
	f.IntSliceVar(&b.publishers, "publishers", []int{1, 4, 16}, "publishing clients")
	f.IntSliceVar(&b.qos, "qos", []int{0, 1}, "quality of service")
	f.DurationVar(&b.length, "seconds", 3*time.Second, "length of one measurement")
	f.IntVar(&b.rounds, "rounds", 3, "rounds, echo and gateway in turn; medians are printed")
	f.DurationVar(&b.steady, "steady", 0, "instead of all that: so long at four fifths of the full rate, with memory and losses")
	f.IntVar(&b.rate, "rate", 1000, "messages a second for the latency at a steady rate; 0 for none")
	echo := &cobra.Command{
		Use: "echo SIZE", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := strconv.Atoi(args[0])
			if err != nil || size < 1 || size > 1<<20 {
				return &exitError{exitUsage, fmt.Errorf("%s is no size", args[0])}
			}
			defer runtime.KeepAlive(heapFloor()) // as the gateway has
			return app.Echo(cmd.Context(), "127.0.0.1:0", size, func(addr string) { fmt.Println(addr) }, newLogger(app.LogConfig{Level: "warn", Format: "console"}, os.Stderr))
		},
	}
	cmd.AddCommand(echo, loopsCommand(), swapsCommand(), trainingCommand())
	return cmd
}

// bench measures one model.
type bench struct {
	model, output, picture string
	size, jpeg             string
	peer, peerPids         string
	json                   bool
	numbered               bool   // each message has a number of its own, in JSON
	raw                    string // the form of a raw payload
	streams, sections      string // of the gateway's configuration, beside its own
	publishers, qos        []int
	length                 time.Duration
	steady                 time.Duration
	rounds, rate           int
	step                   func() // says that one measurement is done
	clear                  func() // makes room for what is printed
}

// run measures each combination, in each round all servers in turn.
func (b *bench) run(ctx context.Context, out io.Writer) error {
	payload, err := b.payload()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "edgegateway-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bar := progress(3+len(b.qos)*(len(b.publishers)*b.rounds+min(b.rate, 1))*map[bool]int{false: 2, true: 3}[b.peer != ""], "bench", false)
	b.step, b.clear = func() { bar.Add(1) }, func() { bar.Clear() }
	defer bar.Finish()
	cold, err := b.coldStart(ctx, dir, payload)
	if err != nil {
		return err
	}
	gateway, err := b.startGateway(ctx, filepath.Join(dir, "gateway"))
	if err != nil {
		return err
	}
	defer gateway.stop()
	if err := gateway.tried(ctx); err != nil {
		return err
	}
	rest := gateway.rss()
	size, delegate, err := gateway.settle(ctx, payload)
	if err != nil {
		return err
	}
	if b.steady > 0 {
		b.clear()
		fmt.Fprintf(out, "payload %d bytes, result %d bytes, delegate %s\n", len(payload), size, delegate)
		return b.runSteady(ctx, out, gateway, payload)
	}
	echo, err := startServer(ctx, "bench", "echo", strconv.Itoa(size))
	if err != nil {
		return err
	}
	defer echo.stop()
	echo.in, echo.out = "echo/in/", "echo/out/"
	b.clear()
	fmt.Fprintf(out, "payload %d bytes, result %d bytes, delegate %s\n", len(payload), size, delegate)
	fmt.Fprintf(out, "at rest: program %s, resident %.0f MB with the model loaded, no traffic yet\ncold start to first result: %.2f s\n\n", programSize(), rest, cold.Seconds())
	servers := []*server{echo, gateway}
	if b.peer != "" {
		peer, err := b.peerServer()
		if err != nil {
			return err
		}
		servers = append(servers, peer)
	}
	for _, qos := range b.qos {
		if err := b.table(ctx, out, byte(qos), payload, servers); err != nil {
			return err
		}
	}
	if b.picture != "" {
		return b.direct(ctx, out, payload, delegate, echo, gateway)
	}
	return nil
}

// table measures one QoS: each number of publishers at full rate, then the
// latency at a steady rate.
func (b *bench) table(ctx context.Context, out io.Writer, qos byte, payload []byte, servers []*server) error {
	names := []string{"echo", "gateway", "peer"}[:len(servers)]
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	defer func() { b.clear(); w.Flush() }()
	fmt.Fprintf(w, "QoS %d\tclients\tmsg/s\tof echo\tgateway is\tp50 ms\tp99 ms\tCPU s/M\tallocs\tRSS MB\t\n", qos)
	for _, n := range b.publishers {
		all := make([][]measured, len(servers))
		for range b.rounds {
			for i, s := range servers {
				m, err := s.measure(ctx, payload, n, qos, b.length, 0)
				if err != nil {
					return fmt.Errorf("%s: %w", names[i], err)
				}
				all[i] = append(all[i], m)
				b.step()
			}
		}
		echo, gateway := median(all[0]), median(all[1])
		for i, s := range servers {
			m := median(all[i])
			allocs := "-"
			if s.web != "" {
				allocs = fmt.Sprintf("%.1f", m.allocs)
			}
			fmt.Fprintf(w, "%s\t%d\t%.0f\t%.2f\t%.2f x\t%.2f\t%.2f\t%.1f\t%s\t%.0f\t\n", names[i], n, m.rate, m.rate/echo.rate, gateway.rate/m.rate,
				ms(m.p50), ms(m.p99), m.cpu, allocs, s.rss())
		}
	}
	if b.rate == 0 {
		return nil
	}
	for i, s := range servers {
		m, err := s.measure(ctx, payload, 4, qos, b.length, b.rate)
		if err != nil {
			return err
		}
		b.step()
		fmt.Fprintf(w, "%s\t4, at %d/s\t%.0f\t\t\t%.2f\t%.2f\t%.1f\t\t%.0f\t\n", names[i], b.rate, m.rate, ms(m.p50), ms(m.p99), m.cpu, s.rss())
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// payload is one input of the model: numbers between 0 and 1, or the picture.
func (b *bench) payload() ([]byte, error) {
	if b.picture != "" {
		return resized(b.picture, b.size)
	}
	_, m, err := readModel(b.model)
	if err != nil {
		return nil, err
	}
	g := m.Main()
	n := 1
	for _, d := range g.Tensors[g.Inputs[0]].Shape {
		n *= int(d)
	}
	if t := g.Tensors[g.Inputs[0]].Type; t != model.Float32 {
		b.raw = "tensor"
		raw := make([]byte, n*t.Bits()/8)
		for i := range raw {
			raw[i] = byte(i * 37)
		}
		return raw, nil
	}
	b.raw = "f32le"
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

// coldStart is the median time of three starts on empty folders of data: from
// the start of the process to the first result at a client.
func (b *bench) coldStart(ctx context.Context, dir string, payload []byte) (time.Duration, error) {
	var took []time.Duration
	for n := range 3 {
		began := time.Now()
		s, err := b.startGateway(ctx, filepath.Join(dir, fmt.Sprint("cold", n)))
		if err != nil {
			return 0, err
		}
		err = s.first(ctx, payload)
		took = append(took, time.Since(began))
		s.stop()
		if err != nil {
			return 0, err
		}
		b.step()
	}
	slices.Sort(took)
	return took[1], nil
}

func programSize() string {
	exe, err := os.Executable()
	if err != nil {
		return "unknown"
	}
	info, err := os.Stat(exe)
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.1f MB", float64(info.Size())/1e6)
}

// startGateway runs this program in a new folder with a configuration made
// for the purpose.
func (b *bench) startGateway(ctx context.Context, dir string) (*server, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	input, picture := "{raw: "+b.raw+"}", ""
	switch {
	case b.picture != "":
		input, picture = "{image: auto}", ", picture: {jpeg: "+b.jpeg+"}"
	case b.numbered:
		input = `{json: ["v[*]"], seq: n}`
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
streams: {bench: {topics: [bench/in/+], input: %s, model: m%s}%s}
dashboard: {listen: "127.0.0.1:0"}
%s`, filepath.Join(dir, "data"), file, b.output, input, picture, b.streams, b.sections)
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

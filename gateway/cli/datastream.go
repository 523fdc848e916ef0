package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"edgegateway/broker"
	"edgegateway/gateway/app"
	"edgegateway/gateway/pipeline"
	"edgegateway/infer/train"
	"edgegateway/internal/link"
	"edgegateway/sensors"
)

// streamSource are the flags that take samples from a stream as it runs: what
// its topics carry, made into inputs as the gateway makes them.
type streamSource struct {
	config, name string
	client       clientFlags
}

func (s *streamSource) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.name, "stream", "", "take --samples inputs (200 without it) of this stream of --config from the broker, in place of --data")
	cmd.Flags().StringVarP(&s.config, "config", "c", "", "with --stream: the configuration that has it")
	completeFiles(cmd, "config", "yaml", "yml")
	s.client.add(cmd)
}

// load waits for n inputs of a model of this shape.
func (s *streamSource) load(ctx context.Context, shape train.Shape, n int, say io.Writer) (*train.Dataset, error) {
	if s.config == "" {
		return nil, &exitError{exitUsage, errors.New("--stream is a stream of a configuration: name that with --config")}
	}
	cfg, err := app.LoadConfig(s.config)
	if err != nil {
		return nil, invalid(err)
	}
	stream, ok := cfg.Streams[s.name]
	if !ok {
		return nil, invalid(fmt.Errorf("%s has no stream %q; it has %s", s.config, s.name, strings.Join(slices.Sorted(maps.Keys(cfg.Streams)), ", ")))
	}
	if s.client.broker == defaultBroker {
		s.client.broker = listens(cfg.Broker)
	}
	if stream.Input.Raw == "tensor" {
		return nil, invalid(fmt.Errorf("stream %s: its bytes go into the model as they stand, and have no numbers to calibrate with; give their form, for example raw: f32le", s.name))
	}
	// Only what comes before the model is wanted of it.
	stream.Model, stream.Record, stream.Results.Topic = "", &pipeline.RecordConfig{Every: "1"}, "unheard/{stream}/{source}"
	g := &gatherer{cfg: stream, most: n, full: make(chan struct{}), bar: newBar("waiting for samples"),
		set: &train.Dataset{Name: "stream " + s.name, Shape: shape}}
	defer g.bar.end()
	if stream.Input.Image != "" {
		if len(shape) != 3 || shape[2] != 1 && shape[2] != 3 {
			return nil, invalid(fmt.Errorf("stream %s has pictures, and the model takes %v", s.name, []int(shape)))
		}
		g.images = sensors.NewImageDecoder()
	}
	epoch := func() (uint64, error) { return 1, nil }
	p, err := pipeline.New(map[string]pipeline.Config{s.name: stream}, nil, unheard{}, nil, g, epoch, zerolog.New(say), prometheus.NewRegistry())
	if err != nil {
		return nil, invalid(err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() { _ = p.Run(running) })
	defer done.Wait()
	defer stop()
	defer p.Cut()
	conn, err := s.client.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	err = conn.Subscribe(ctx, stream.Topics, 0, func(m link.Msg) {
		p.Handle(broker.Message{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Received: time.Now()})
	})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(say, "waiting for %d samples of stream %s at %s; Ctrl-C ends it\n", n, s.name, s.client.broker)
	select {
	case <-g.full:
	case <-ctx.Done():
		return nil, fmt.Errorf("%d of %d samples came: %w", g.count(), n, ctx.Err())
	case <-conn.Done():
		return nil, fmt.Errorf("%d of %d samples came: %w", g.count(), n, conn.Err())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.set, errors.Join(invalid(g.err), invalid(g.set.Check()))
}

// listens is the first address of a broker that a client can come to.
func listens(cfg broker.Config) string {
	for _, l := range cfg.Listeners {
		if _, port, err := net.SplitHostPort(l.TCP); err == nil && port != "0" && l.TLS == nil {
			return "tcp://" + l.TCP
		}
	}
	return defaultBroker
}

// unheard publishes to nobody.
type unheard struct{}

func (unheard) Publish(string, []byte, byte, bool) error { return nil }

// gatherer keeps inputs, up to most: it is the stream's recorder.
type gatherer struct {
	cfg    pipeline.Config
	most   int
	full   chan struct{}
	images *sensors.ImageDecoder
	bar    *bar

	mu  sync.Mutex
	set *train.Dataset
	n   int
	err error
}

func (g *gatherer) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

func (g *gatherer) Record(r *pipeline.Result, input []float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n == g.most {
		return
	}
	if err := g.add(r, input); err != nil {
		g.err = fmt.Errorf("%s: %w", g.set.Name, err)
		g.n = g.most
	} else if g.n++; g.n%max(1, g.most/100) == 0 {
		g.bar.step(g.n, g.most)
	}
	if g.n == g.most {
		close(g.full)
	}
}

func (g *gatherer) add(r *pipeline.Result, input []float64) error {
	size, d := 1, g.set
	for _, n := range d.Shape {
		size *= n
	}
	if g.images != nil {
		at := len(d.Pixels)
		d.Pixels = append(d.Pixels, make([]byte, size)...)
		_, err := g.images.Into(r.Picture, g.cfg.Picture, sensors.Target{W: d.Shape[1], H: d.Shape[0], C: d.Shape[2], Type: sensors.Uint8, Data: d.Pixels[at:]})
		return err
	}
	if len(input) != size {
		return fmt.Errorf("an input has %d numbers, the model takes %v", len(input), []int(d.Shape))
	}
	input = slices.Clone(input)
	if err := g.cfg.Normalise.Apply(input); err != nil {
		return err
	}
	for _, v := range input {
		d.Values = append(d.Values, float32(v))
	}
	return nil
}

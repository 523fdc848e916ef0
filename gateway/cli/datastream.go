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

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"edgegateway/gateway/app"
	"edgegateway/gateway/dataset"
	"edgegateway/infer/train"
	"edgegateway/internal/link"
)

// streamSource are the flags that take samples from a stream as it runs: what
// its topics carry, made into inputs as the gateway makes them.
type streamSource struct {
	config, name string
	client       clientFlags
	given        func(flag string) bool
}

func (s *streamSource) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.name, "stream", "", "take --samples inputs (200 without it) of this stream of --config from the broker, in place of --data")
	cmd.Flags().StringVarP(&s.config, "config", "c", "", "with --stream: the configuration that has it")
	completeFiles(cmd, "config", "yaml", "yml")
	s.client.add(cmd)
	s.given = cmd.Flags().Changed
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
	for _, l := range slices.Backward(cfg.Broker.Listeners) { // the first that a client can come to
		if _, port, err := net.SplitHostPort(l.TCP); err == nil && port != "0" && l.TLS == nil && !s.given("broker") {
			s.client.broker = "tcp://" + l.TCP
		}
	}
	bar := newBar("waiting for samples")
	defer bar.end()
	live, err := dataset.NewLive(s.name, stream, shape, n, bar.step, zerolog.New(zerolog.ConsoleWriter{Out: say, NoColor: true}).With().Timestamp().Logger())
	if err != nil {
		return nil, invalid(err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() { _ = live.Run(running) })
	defer done.Wait()
	defer stop()
	conn, err := s.client.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.Subscribe(ctx, stream.Topics, 0, func(m link.Msg) { live.Handle(m.Topic, m.Payload, m.Retain) }); err != nil {
		return nil, err
	}
	fmt.Fprintf(say, "waiting for %d samples of stream %s at %s; Ctrl-C ends it\n", n, s.name, s.client.broker)
	select {
	case <-live.Full():
	case <-ctx.Done():
		return nil, fmt.Errorf("stopped: %d of %d samples came; nothing was written", live.Len(), n)
	case <-conn.Done():
		return nil, fmt.Errorf("%d of %d samples came: %w", live.Len(), n, conn.Err())
	}
	d, err := live.Set()
	return d, invalid(err)
}

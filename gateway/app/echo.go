package app

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
)

// Echo runs the gateway's broker alone and answers each message on
// echo/in/<x> with one of size bytes on echo/out/<x>: what the whole way
// through a stream is measured against. ready is told the broker's address.
func Echo(ctx context.Context, listen string, size int, ready func(addr string), log zerolog.Logger) error {
	cfg := broker.DefaultConfig()
	cfg.Listeners[0].TCP = listen
	b, err := broker.New(cfg, log, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	answer := make([]byte, size)
	for i := range answer {
		answer[i] = 'x'
	}
	const in, out = "echo/in/", "echo/out/"
	if _, err := b.Tap([]string{in + "+"}, func(m broker.Message) {
		if err := b.Publish(out+m.Topic[len(in):], answer, m.QoS, false); err != nil {
			log.Error().Err(err).Msg("echo")
		}
	}); err != nil {
		return err
	}
	go func() {
		select {
		case <-b.Ready():
			ready(b.Addrs()[0])
		case <-ctx.Done():
		}
	}()
	return b.Run(ctx)
}

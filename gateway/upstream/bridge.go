package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Bridge empties an outbox into a cloud broker. A record leaves the outbox
// when the broker acknowledged it, not sooner; after a lost connection what
// was not acknowledged is sent again, in order.
type Bridge struct {
	name, gateway string
	outbox        *Outbox
	log           zerolog.Logger
	commands      *commands
	changed       chan struct{} // the link's settings are new
	incoming      *Incoming     // nil: no models come over this link
	lender        lender

	mu     sync.Mutex
	cfg    Config
	status Status
}

// Status is the link as a person looks at it.
type Status struct {
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"` // of being connected or not
	LastError string    `json:"last_error,omitempty"`
	Acked     uint64    `json:"acked"` // by the cloud, since the start
}

// Handler executes a command of the cloud and gives the reply, JSON as a rule.
type Handler func(ctx context.Context, name string, payload []byte) ([]byte, error)

// NewBridge prepares the bridge of the link called name; Run runs it. Its
// metrics belong to the outbox, which gets to know the gateway's name by it.
func NewBridge(name, gateway string, cfg Config, outbox *Outbox, handle Handler, log zerolog.Logger, _ prometheus.Registerer) (*Bridge, error) {
	if err := checkTopic(topicPrefix(cfg, gateway)); err != nil {
		return nil, fmt.Errorf("prefix: %s %w", topicPrefix(cfg, gateway), err)
	}
	outbox.gateway = gateway
	return &Bridge{
		name: name, gateway: gateway, cfg: cfg, outbox: outbox, log: log,
		commands: newCommands(handle, log, outbox.metrics),
		changed:  make(chan struct{}, 1), status: Status{Since: time.Now()},
		lender: lender{requests: make(chan *lending)},
	}, nil
}

func topicPrefix(cfg Config, gateway string) string {
	return strings.ReplaceAll(cfg.Prefix, "{gateway}", gateway)
}

// Reload takes over a changed configuration: limits at once, the link's
// settings with a new connection. Nothing in line is lost.
func (b *Bridge) Reload(cfg Config) error {
	if err := checkTopic(topicPrefix(cfg, b.gateway)); err != nil {
		return fmt.Errorf("prefix: %s %w", topicPrefix(cfg, b.gateway), err)
	}
	b.outbox.reload(cfg)
	b.mu.Lock()
	b.cfg = cfg
	b.mu.Unlock()
	b.change()
	return nil
}

// Fetch lets models come over this link. It is called before Run.
func (b *Bridge) Fetch(in *Incoming) { b.incoming = in }

// change notes that the settings are new.
func (b *Bridge) change() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// Status gives the present state.
func (b *Bridge) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

func (b *Bridge) config() Config {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cfg
}

// errReload ends a session whose settings changed.
var errReload = errors.New("the configuration changed")

// lasted is how long a connection must stand to count as good when there was
// nothing to send.
const lasted = time.Minute

// Run connects, drains and reconnects until ctx ends; then it says good-bye.
// A cloud out of reach is no error.
func (b *Bridge) Run(ctx context.Context) error {
	s := &session{Bridge: b, window: 1 << 30}
	for class := range classes {
		s.readers[class] = b.outbox.logs[class].Reader()
		defer s.readers[class].Close()
	}
	failures := 0
	for ctx.Err() == nil {
		select {
		case <-b.changed: // it is read now
		default:
		}
		start := time.Now()
		good, err := s.run(ctx, b.config())
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errReload) {
			continue
		}
		if good || time.Since(start) > lasted {
			failures = 0
		}
		b.down(err)
		cfg := b.config()
		wait := backoff(cfg.RetryMin, cfg.RetryMax, failures)
		failures++
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-b.changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	b.down(nil)
	return nil
}

// backoff doubles from least with each failure in a row, up to most; half of
// it is chance, so that a thousand gateways do not come at once.
func backoff(least, most time.Duration, failures int) time.Duration {
	d := most
	if failures < 30 && least<<failures < most && least<<failures > 0 {
		d = least << failures
	}
	return d/2 + rand.N(d/2+1)
}

func (b *Bridge) up(cfg Config) {
	b.mu.Lock()
	b.status.Connected, b.status.Since, b.status.LastError = true, time.Now(), ""
	b.mu.Unlock()
	b.outbox.metrics.connected.Set(1)
	b.outbox.metrics.connects.Inc()
	alerts, results := b.outbox.Pending()
	b.log.Info().Str("url", cfg.address()).Int("alerts", alerts).Int("results", results).Msg("connected to the cloud")
}

// down notes that the link is away; it is logged when it goes and when the
// reason changes, not at each attempt.
func (b *Bridge) down(err error) {
	b.mu.Lock()
	was := b.status
	if was.Connected {
		b.status.Since = time.Now()
	}
	b.status.Connected = false
	if err != nil {
		b.status.LastError = err.Error()
	}
	b.mu.Unlock()
	b.outbox.metrics.connected.Set(0)
	if err == nil {
		return
	}
	b.outbox.metrics.failures.Inc()
	if was.Connected || was.LastError != err.Error() {
		b.log.Warn().Err(err).Msg("the cloud is away; results wait on disk")
	}
}

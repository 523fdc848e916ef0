package alert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

const (
	outputQueue   = 64                     // events that may wait for one output
	outputTimeout = 10 * time.Second       // where the configuration gives none
	outputGrace   = 500 * time.Millisecond // for what waits when the gateway stops
	commandOutput = 4 << 10                // bytes of what a command says that are kept
)

// output is one further way out of an alert: its own queue and goroutine, so
// that a slow one holds up nobody.
type output struct {
	kind    string
	on      []string
	timeout time.Duration
	queue   chan *Event
	done    chan struct{} // closed: finish what is queued, and end
	send    func(context.Context, *Event) error
	fail    func(reason string, err error)
}

// newOutputs makes the outputs of a rule; the engine starts and ends them.
func newOutputs(cfg Config, e *Engine, log zerolog.Logger, name string) []*output {
	var list []*output
	add := func(kind string, index int, key, where string, on []string, timeout time.Duration, send func(context.Context, *Event) error) {
		if len(on) == 0 {
			on = []string{Raised}
		}
		if timeout <= 0 {
			timeout = outputTimeout
		}
		for _, reason := range []string{"queue_full", "stopped", "failed"} {
			e.failed.WithLabelValues(name, kind, reason)
		}
		list = append(list, &output{
			kind: kind, on: on, timeout: timeout, send: send,
			queue: make(chan *Event, outputQueue), done: make(chan struct{}),
			fail: func(reason string, err error) {
				e.failed.WithLabelValues(name, kind, reason).Inc()
				log.Warn().Err(err).Str("output", kind).Int("index", index).Str(key, where).Msg("output of the alert failed")
			},
		})
	}
	for i, p := range cfg.Publish {
		add("publish", i, "topic", p.Topic, p.On, 0, func(_ context.Context, ev *Event) error {
			topic, err := render(p.Topic, ev)
			if err != nil {
				return err
			}
			payload, err := render(p.Payload, ev)
			if err != nil {
				return err
			}
			return e.out.PublishLocal(string(topic), payload, p.Retain)
		})
	}
	for i, w := range cfg.Webhook {
		add("webhook", i, "url", withoutSecrets(w.URL), w.On, w.Timeout, func(ctx context.Context, ev *Event) error { return w.send(ctx, &e.client, ev) })
	}
	for i, c := range cfg.Command {
		add("command", i, "command", c.Run[0], c.On, c.Timeout, func(ctx context.Context, ev *Event) error { return c.start(ctx, ev) })
	}
	return list
}

func (o *output) offer(e *Event) {
	if !slices.Contains(o.on, e.State) {
		return
	}
	select {
	case o.queue <- e:
	default:
		o.fail("queue_full", fmt.Errorf("%d events wait already; this one is dropped", outputQueue))
	}
}

// run sends until done is closed and the queue is empty; what is left when ctx
// ends is counted as failed.
func (o *output) run(ctx context.Context) {
	for {
		select {
		case e := <-o.queue:
			o.deliver(ctx, e)
			continue
		case <-o.done:
		}
		for {
			select {
			case e := <-o.queue:
				o.deliver(ctx, e)
			default:
				return
			}
		}
	}
}

func (o *output) deliver(ctx context.Context, e *Event) {
	if ctx.Err() != nil {
		o.fail("stopped", fmt.Errorf("the gateway stops; %s of %s is not sent", e.State, e.ID))
		return
	}
	limited, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if err := o.send(limited, e); err != nil {
		o.fail("failed", err)
	}
}

// withoutSecrets is an address as the log may have it: no user, no query, and
// no long level of the path, where services put their tokens.
func withoutSecrets(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	levels := strings.Split(u.Path, "/")
	for i, l := range levels {
		if len(l) > 16 {
			levels[i] = "..."
		}
	}
	return u.Scheme + "://" + u.Host + strings.Join(levels, "/")
}

// newClient follows a redirect only to where it was told to go at all.
func newClient() http.Client {
	return http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 8, IdleConnTimeout: time.Minute},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > 3 || req.URL.Scheme != via[0].URL.Scheme {
				return fmt.Errorf("redirected to %s", req.URL.Redacted())
			}
			return nil
		},
	}
}

// send does the request, once more where the server was busy or away.
func (w WebhookConfig) send(ctx context.Context, client *http.Client, e *Event) error {
	body, err := render(w.Body, e)
	if err != nil {
		return err
	}
	method := w.Method
	if method == "" {
		method = http.MethodPost
	}
	for try := 0; ; try++ {
		req, err := http.NewRequestWithContext(ctx, method, w.URL, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		for k, v := range w.Headers {
			req.Header.Set(k, v)
		}
		resp, err := client.Do(req)
		code := 0
		if resp != nil {
			code = resp.StatusCode // also of a redirect that is not followed
		}
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the address, which may hold a token
		}
		if err == nil {
			io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
			resp.Body.Close()
			if code < 300 {
				return nil
			}
			err = fmt.Errorf("the server answers %s", resp.Status)
		}
		if try == 1 || code != 0 && code < 500 {
			return fmt.Errorf("webhook: %w", err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("webhook: %w", err)
		}
	}
}

// start runs the program; at the limit its whole process group is killed.
func (c CommandConfig) start(ctx context.Context, e *Event) error {
	argv := make([]string, len(c.Run))
	for i, a := range c.Run {
		b, err := render(a, e)
		if err != nil {
			return err
		}
		if a != "" {
			argv[i] = string(b)
		}
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	cmd.WaitDelay = outputGrace
	cmd.Stdin = bytes.NewReader(e.JSON())
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8",
		"EDGEGATEWAY_ALERT=" + e.Alert, "EDGEGATEWAY_SOURCE=" + e.Source, "EDGEGATEWAY_STATE=" + e.State,
	}
	var said head
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		_ = kill() // it ended and left something behind that holds its output
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("command %s: ended at its time limit", argv[0])
	}
	return fmt.Errorf("command %s: %w: %.200s", argv[0], err, said)
}

// head keeps the first bytes that are written to it.
type head []byte

func (h *head) Write(p []byte) (int, error) {
	*h = append(*h, p[:min(len(p), commandOutput-len(*h))]...)
	return len(p), nil
}

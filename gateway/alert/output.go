package alert

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

const (
	outputQueue   = 64               // events that may wait for one output
	outputTimeout = 10 * time.Second // where the configuration gives none
)

// output is one further way out of an alert: its own queue and goroutine, so
// that a slow one holds up nobody.
type output struct {
	kind  string
	on    []string
	queue chan *Event
	send  func(context.Context, *Event) error
	fail  func(error)
}

// newOutputs makes the outputs of a rule; they live until the engine stops.
func newOutputs(cfg Config, e *Engine, log zerolog.Logger, name string) []*output {
	var list []*output
	add := func(kind string, on []string, timeout time.Duration, send func(context.Context, *Event) error) {
		if len(on) == 0 {
			on = []string{Raised}
		}
		if timeout <= 0 {
			timeout = outputTimeout
		}
		failures := e.failed.WithLabelValues(name, kind)
		o := &output{kind: kind, on: on, queue: make(chan *Event, outputQueue), send: send, fail: func(err error) {
			failures.Inc()
			log.Warn().Err(err).Str("output", kind).Msg("output of the alert failed")
		}}
		list = append(list, o)
		go o.run(e.ctx, timeout)
	}
	for _, p := range cfg.Publish {
		add("publish", p.On, 0, func(_ context.Context, ev *Event) error {
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
	for _, w := range cfg.Webhook {
		add("webhook", w.On, w.Timeout, func(ctx context.Context, ev *Event) error { return w.send(ctx, ev) })
	}
	for _, c := range cfg.Command {
		add("command", c.On, c.Timeout, func(ctx context.Context, ev *Event) error { return c.start(ctx, ev) })
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
		o.fail(fmt.Errorf("%d events wait already; this one is dropped", outputQueue))
	}
}

func (o *output) run(ctx context.Context, timeout time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-o.queue:
			limited, cancel := context.WithTimeout(ctx, timeout)
			if err := o.send(limited, e); err != nil && ctx.Err() == nil {
				o.fail(err)
			}
			cancel()
		}
	}
}

var client = http.Client{CheckRedirect: func(req *http.Request, via []*http.Request) error {
	if len(via) > 3 || req.URL.Scheme != via[0].URL.Scheme {
		return fmt.Errorf("redirected to %s", req.URL.Scheme)
	}
	return nil
}}

// send does the request, once more where the server was busy or away.
func (w WebhookConfig) send(ctx context.Context, e *Event) error {
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
		if err == nil {
			code = resp.StatusCode
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
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	cmd.Stdin = bytes.NewReader(e.JSON())
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8",
		"EDGEGATEWAY_ALERT=" + e.Alert, "EDGEGATEWAY_SOURCE=" + e.Source, "EDGEGATEWAY_STATE=" + e.State,
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("command %s: ended at its time limit", argv[0])
		}
		return fmt.Errorf("command %s: %w: %.200s", argv[0], err, out)
	}
	return nil
}

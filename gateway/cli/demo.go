package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"edgegateway/internal/link"
)

func demoCommand() *cobra.Command {
	var configs, cache string
	cmd := &cobra.Command{
		Use:     "demo",
		Hidden:  true,
		Short:   "Conduct the demonstration: a gateway, a cloud, a camera and this machine's telemetry",
		Example: "  edgegateway demo --configs configs",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Who asks twice must not leave children behind: make hands a signal on
			// that its group had. Nor a terminal that is closed, nor a pipe.
			signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM)
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP, syscall.SIGPIPE)
			defer stop()
			d := demo{configs: configs, cache: cache, out: cmd.OutOrStdout(), width: lineWidth(80)}
			d.colour = term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == ""
			return d.run(ctx)
		},
	}
	cmd.Flags().StringVar(&configs, "configs", "configs", "folder with demo.yaml and cloud.yaml")
	cmd.Flags().StringVar(&cache, "cache", os.Getenv("EDGEGATEWAY_CACHE"), "folder that the set-up filled")
	cmd.AddCommand(demoFLCommand(), demoRogueCommand())
	return cmd
}

// demo conducts processes of this same program: what it shows is what a user
// gets, over real connections.
type demo struct {
	configs, cache string
	exe            string
	children       []*child // in the order in which they started
	died           chan error

	mu     sync.Mutex // of out
	out    io.Writer
	width  int // of a line
	colour bool

	results, alerts atomic.Int64  // that the cloud received
	first           chan struct{} // closed with the first result
	scanned         int           // results of digits
	answered        chan struct{} // closed with the first of them
	trying          string        // the version in its pre-flight
}

func (d *demo) say(who, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.out, "%s  %-8s %s\n", time.Now().Format(time.TimeOnly), who, fmt.Sprintf(format, args...))
}

// What goes where, as configs/demo.yaml takes it.
const (
	demoCamera    = "camera/porch/front"
	demoTelemetry = "host/demo/telemetry"
)

func (d *demo) run(ctx context.Context) (err error) {
	folder, err := filepath.Abs(filepath.Join(d.cache, "demo"))
	if err != nil {
		return err
	}
	model := filepath.Join(folder, "face_detection_short_range.tflite")
	if _, err := os.Stat(model); d.cache == "" || err != nil {
		return fmt.Errorf("demo: the pictures and the model are not there; use: make run")
	}
	mnist, err := filepath.Abs(filepath.Join(d.cache, "mnist", "data"))
	if err != nil {
		return err
	}
	if d.exe, err = os.Executable(); err != nil {
		return err
	}
	data, err := os.MkdirTemp("", "edgegateway-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	d.died, d.first = make(chan error, 8), make(chan struct{})
	d.answered = make(chan struct{})
	defer d.stop()
	// The gateway's configuration is its own: the key that it trusts is made for
	// it, and a model is to be added.
	text, err := os.ReadFile(filepath.Join(d.configs, "demo.yaml"))
	if err != nil {
		return err
	}
	config := filepath.Join(data, "demo.yaml")
	if err := demoKeys(data); err != nil {
		return err
	}
	if err := os.WriteFile(config, bytes.ReplaceAll(text, []byte(atOnce), nil), 0o600); err != nil {
		return err
	}

	// The pictures are made while the brokers start.
	pictures := make(chan error, 1)
	go func() { pictures <- doorPictures(folder, filepath.Join(data, "door")) }()

	addrs, err := freeAddrs(3)
	if err != nil {
		return err
	}
	cloud, local, web := addrs[0], addrs[1], addrs[2]
	env := []string{
		"EDGEGATEWAY_DEMO_DATA=" + filepath.Join(data, "gateway"),
		"EDGEGATEWAY_CLOUD_DATA=" + filepath.Join(data, "cloud"),
		"EDGEGATEWAY_DEMO_MODEL=" + model,
		"EDGEGATEWAY_DEMO_DIGITS=" + filepath.Join(data, digitsFloat),
		"EDGEGATEWAY_DEMO_BROKER=" + local,
		"EDGEGATEWAY_DEMO_HTTP=" + web,
		"EDGEGATEWAY_DEMO_CLOUD=tcp://" + cloud,
		"EDGEGATEWAY_DEMO_CLOUD_LISTEN=" + cloud,
	}
	if err := d.start("cloud", env, "run", "--config", filepath.Join(d.configs, "cloud.yaml")); err != nil {
		return err
	}
	conn, err := d.await(ctx, cloud)
	if err != nil {
		return err
	}
	defer conn.Close()
	d.say("cloud", "a second %s, only a broker: tcp://%s", filepath.Base(d.exe), cloud)
	if err := d.start("gateway", env, "run", "--config", config); err != nil {
		return err
	}
	probe, err := d.await(ctx, local)
	if err != nil {
		return err
	}
	probe.Close()
	d.say("gateway", "its broker is at tcp://%s", local)
	d.say("", "metrics and health are at http://%s", web)
	if err := <-pictures; err != nil {
		return err
	}
	d.say("camera", "a photograph each second to %s", demoCamera)
	d.say("machine", "its own telemetry each second to %s", demoTelemetry)
	d.say("look in", "%s sub --broker tcp://%s '#'", d.command(), local)
	d.say("", "Below is what the cloud receives. Ctrl-C ends it.")
	if err := conn.Subscribe(ctx, []string{"gateways/#"}, 1, d.received); err != nil {
		return err
	}
	go d.models(ctx, web)
	if err := d.start("camera", nil, "replay", "--broker", "tcp://"+local, "--every", "1s", "--loop", "--quiet", demoCamera, filepath.Join(data, "door")); err != nil {
		return err
	}
	if err := d.start("machine", nil, "publish", "--host", "--broker", "tcp://"+local, demoTelemetry); err != nil {
		return err
	}
	// The model of its own comes after the first result: nothing waits for it.
	learning, end := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer func() { end(); beside.Wait() }()
	beside.Go(func() {
		select {
		case <-learning.Done():
		case <-d.first:
			(&digits{demo: d, mnist: mnist, data: data, config: config, env: env, broker: local, cloud: cloud}).run(learning)
		}
	})
	select {
	case <-ctx.Done():
		beside.Wait()
		d.stop()
		d.say("stopped", "the cloud had received %s and %s", count(int(d.results.Load()), "result"), count(int(d.alerts.Load()), "alert"))
		return nil
	case err := <-d.died:
		return err
	}
}

// command is how a reader in the same folder calls this program.
func (d *demo) command() string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, d.exe); err == nil && !strings.HasPrefix(rel, "..") {
			return rel
		}
	}
	return d.exe
}

// start runs this program with arguments until the demonstration ends.
func (d *demo) start(name string, env []string, args ...string) error {
	c, err := startChild(d.exe, env, nil, func(line string) {
		// That a version is refused comes as a status too.
		if name != "gateway" || !strings.Contains(line, refusedLine) {
			d.say(name, "%s", line)
		}
	}, args...)
	if err != nil {
		return fmt.Errorf("demo: %s: %w", name, err)
	}
	d.children = append(d.children, c)
	go func() {
		<-c.done
		d.died <- fmt.Errorf("demo: the %s (edgegateway %s) ended: %v", name, strings.Join(args, " "), c.err)
	}()
	return nil
}

// stop ends the children in the order of the journey: those that publish, the
// gateway, the cloud, so that each has what the one before it handed over.
// What is left after a while is killed. It may be called twice.
func (d *demo) stop() {
	late := time.After(1800 * time.Millisecond)
	for len(d.children) > 0 {
		group := d.children[min(2, len(d.children)-1):]
		d.children = d.children[:len(d.children)-len(group)]
		for _, c := range group {
			c.cmd.Process.Signal(syscall.SIGTERM)
		}
		for _, c := range group {
			select {
			case <-c.done:
			case <-late:
				c.cmd.Process.Kill()
				<-c.done
				late = time.After(0)
			}
		}
	}
}

// freeAddrs finds free ports. They are free a moment ago, not reserved: a child
// that finds its own taken says so and ends the demonstration.
func freeAddrs(n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs[i] = l.Addr().String()
	}
	return addrs, nil
}

// await connects once the broker is there.
func (d *demo) await(ctx context.Context, addr string) (*link.Conn, error) {
	limit := time.After(10 * time.Second)
	for {
		conn, err := link.Connect(ctx, link.Config{URL: "tcp://" + addr, ClientID: "demo"})
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case died := <-d.died:
			return nil, died
		case <-limit:
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// received prints a line for what arrived at the cloud.
func (d *demo) received(m link.Msg) {
	topic := strings.TrimPrefix(m.Topic, "gateways/demo/")
	kind, name, _ := strings.Cut(topic, "/")
	var status struct{ Online bool }
	before, after := "", ""
	switch {
	case strings.HasSuffix(topic, "/picture"):
		d.say("cloud", "%-14s a picture of it, %d kB", "", len(m.Payload)/1000)
		return
	case kind == "models":
		d.version(name, m.Payload)
		return
	case kind == "results":
		if d.results.Add(1) == 1 {
			close(d.first)
		}
		if strings.HasPrefix(name, "digits/") && !d.shows() {
			return
		}
	case kind == "alerts":
		d.alerts.Add(1)
		if d.colour {
			before, after = "\x1b[1m", "\x1b[0m"
		}
	case topic == "status" && json.Unmarshal(m.Payload, &status) == nil && status.Online:
		d.say("cloud", "the gateway is there")
		return
	case topic == "status":
		d.say("cloud", "the gateway says good-bye")
		return
	}
	text := summary(m.Payload, d.width-len("15:04:05  gateway  somebody/front "))
	d.say("cloud", "%-14s %s%s%s", name, before, text, after)
}

// shows says whether a result of digits is shown: one in so many.
func (d *demo) shows() bool {
	if d.scanned++; d.scanned == 1 {
		close(d.answered)
	}
	return d.scanned%digitsShown == 1
}

// models says which delegate each model runs on, and why, when it is known
// and when it changes.
func (d *demo) models(ctx context.Context, web string) {
	last := map[string]string{}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		status, err := readStatus(ctx, "http://"+web)
		if err != nil {
			continue // the gateway starts or stops
		}
		for _, m := range status.Models {
			if m.Version != "" { // its pre-flight said so
				continue
			}
			if text := fmt.Sprintf("%s runs on %s: %s", m.Name, m.Delegate, m.Why); last[m.Name] != text {
				last[m.Name] = text
				who := "model"
				for _, line := range wrap(text, d.width-len("15:04:05  gateway  ")) {
					d.say(who, "%s", line)
					who = ""
				}
			}
		}
	}
}

// wrap breaks a text into lines of so many characters, between words.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}

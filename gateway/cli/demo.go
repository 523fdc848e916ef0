package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/gateway/app"
	"edgegateway/internal/link"
)

func demoCommand() *cobra.Command {
	var configs, cache string
	cmd := &cobra.Command{
		Use:    "demo",
		Hidden: true,
		Short:  "Conduct the demonstration: a gateway, a cloud, a camera and this machine's telemetry",
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := demo{configs: configs, cache: cache, out: cmd.OutOrStdout()}
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&configs, "configs", "configs", "folder with demo.yaml and cloud.yaml")
	cmd.Flags().StringVar(&cache, "cache", os.Getenv("EDGEGATEWAY_CACHE"), "folder that the set-up filled")
	return cmd
}

// demo conducts processes of this same program: what it shows is what a user
// gets, over real connections.
type demo struct {
	configs, cache string
	out            io.Writer
	exe            string
	children       []*exec.Cmd
	died           chan error
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context) (err error) {
	model := filepath.Join(d.cache, "demo", "face_detection_short_range.tflite")
	if _, err := os.Stat(model); d.cache == "" || err != nil {
		return fmt.Errorf("demo: the pictures and the model are not there; use: make run")
	}
	if d.exe, err = os.Executable(); err != nil {
		return err
	}
	data, err := os.MkdirTemp("", "edgegateway-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	d.died = make(chan error, 8)
	defer d.stop()

	cloud, local, web, err := threePorts()
	if err != nil {
		return err
	}
	os.Setenv("EDGEGATEWAY_DEMO_DATA", filepath.Join(data, "gateway"))
	os.Setenv("EDGEGATEWAY_CLOUD_DATA", filepath.Join(data, "cloud"))
	os.Setenv("EDGEGATEWAY_DEMO_MODEL", model)
	os.Setenv("EDGEGATEWAY_DEMO_BROKER", local)
	os.Setenv("EDGEGATEWAY_DEMO_HTTP", web)
	os.Setenv("EDGEGATEWAY_DEMO_CLOUD", "tcp://"+cloud)
	os.Setenv("EDGEGATEWAY_DEMO_CLOUD_LISTEN", cloud)

	if err := d.start("run", "--config", filepath.Join(d.configs, "cloud.yaml")); err != nil {
		return err
	}
	conn, err := d.await(ctx, cloud)
	if err != nil {
		return err
	}
	defer conn.Close()
	d.say("cloud     broker at tcp://%s", cloud)
	if err := conn.Subscribe(ctx, []string{"gateways/#"}, 1, func(m link.Msg) { d.received(m) }); err != nil {
		return err
	}
	if err := d.start("run", "--config", filepath.Join(d.configs, "demo.yaml")); err != nil {
		return err
	}
	probe, err := d.await(ctx, local)
	if err != nil {
		return err
	}
	probe.Close()
	d.say("gateway   broker at tcp://%s, metrics and health at http://%s", local, web)
	if err := d.start("publish", "--host", "--broker", "tcp://"+local, "host/demo/telemetry"); err != nil {
		return err
	}
	door, err := doorPictures(filepath.Join(d.cache, "demo"), filepath.Join(data, "door"))
	if err != nil {
		return err
	}
	if err := d.start("replay", "--broker", "tcp://"+local, "--every", "1s", "--loop", "--quiet", "camera/door/front", door); err != nil {
		return err
	}
	d.say("replay    photographs to camera/door/front, this machine's telemetry to host/demo/telemetry")
	d.say("look in   %s sub --broker tcp://%s '#'", d.command(), local)
	d.say("          Ctrl-C ends it; below is what arrives at the cloud")
	go d.models(ctx, web)
	select {
	case <-ctx.Done():
		d.say("stopping")
		return nil
	case err := <-d.died:
		return err
	}
}

func (d *demo) command() string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, d.exe); err == nil && !strings.HasPrefix(rel, "..") {
			return rel
		}
	}
	return d.exe
}

// start runs this program with arguments until the demonstration ends. It is
// in a process group of its own, so that Ctrl-C reaches the conductor alone.
func (d *demo) start(args ...string) error {
	cmd := exec.Command(d.exe, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("demo: %s: %w", args[0], err)
	}
	d.children = append(d.children, cmd)
	go func() {
		err := cmd.Wait()
		d.died <- fmt.Errorf("demo: %s ended: %v", strings.Join(args, " "), err)
	}()
	return nil
}

// stop ends the children, the youngest first, and waits a little for each.
func (d *demo) stop() {
	// A second Ctrl-C must not leave children behind.
	signal.Ignore(os.Interrupt)
	for _, c := range d.children {
		c.Process.Signal(syscall.SIGTERM)
	}
	deadline := time.After(1800 * time.Millisecond)
	for range d.children {
		select {
		case <-d.died:
		case <-deadline:
			for _, c := range d.children {
				c.Process.Kill()
			}
			return
		}
	}
}

// threePorts finds free ports. They are free a moment ago, not reserved: a
// child that finds its own taken says so and ends the demonstration.
func threePorts() (a, b, c string, err error) {
	var addrs [3]string
	for i := range addrs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", "", err
		}
		defer l.Close()
		addrs[i] = l.Addr().String()
	}
	return addrs[0], addrs[1], addrs[2], nil
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
	if strings.HasSuffix(topic, "/picture") {
		d.say("cloud     %-24s picture of %d kB", topic, len(m.Payload)/1000)
		return
	}
	d.say("cloud     %-24s %s", topic, summary(m.Payload))
}

// models says which delegate each model runs on, and why, when it is known
// and when it changes.
func (d *demo) models(ctx context.Context, web string) {
	last := ""
	for range 120 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(250 * time.Millisecond):
		}
		resp, err := http.Get("http://" + web + "/api/status")
		if err != nil {
			continue
		}
		var s app.Status
		err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&s)
		resp.Body.Close()
		if err != nil {
			continue
		}
		var b bytes.Buffer
		for _, m := range s.Models {
			fmt.Fprintf(&b, "model     %s runs on %s: %s", m.Name, m.Delegate, m.Why)
		}
		if text := b.String(); text != "" && text != last {
			last = text
			d.say("%s", text)
		}
	}
}

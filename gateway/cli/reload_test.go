package cli_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgegateway/gateway/app"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// While a client publishes, the configuration of a real process is changed by
// the command and by the signal, rightly and wrongly: each message becomes a
// result, and who asked is told how it went.
func TestReload(t *testing.T) {
	dir, broker, web := t.TempDir(), testkit.FreeAddr(t), testkit.FreeAddr(t)
	cloud, recorded := testkit.FreeAddr(t), filepath.Join(t.TempDir(), "recorded")
	start(t, recorderCommand, cloud, recorded).Line(`^recording$`)
	config := func(stream, more string) string {
		return write(t, dir, "gateway.yaml", fmt.Sprintf(`gateway: hall-7
data: %s/data
broker: {listeners: [{tcp: %q}]}
streams: {rows: {%s, input: {json: [v], seq: n}}}
upstream: {cloud: {url: "tcp://%s", retry_min: 50ms}}
dashboard: {listen: %q}
%s
`, dir, broker, stream, cloud, web, more))
	}
	file := config("topics: [rows/+]", "")
	reload := func(code int, want string) {
		t.Helper()
		got := run(t, "", "reload", "--config", file)
		if got.code != code || !strings.Contains(got.stdout+got.stderr, want) {
			t.Errorf("exit code %d, want %d; %q, want %q", got.code, code, got.stdout+got.stderr, want)
		}
	}
	reload(1, "no gateway runs on the data folder "+dir)
	p := start(t, "run", "--config", file)
	p.Line(` ready `)

	const total = 20_000
	conn, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + broker, ClientID: "sensor", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := make(chan error, 1)
	go func() {
		msgs := make([]link.Msg, total)
		for n := range msgs {
			msgs[n] = link.Msg{Topic: "rows/a", QoS: 1, Payload: fmt.Appendf(nil, `{"v":1,"n":%d}`, n+1)}
		}
		_, err := conn.Window(t.Context(), msgs)
		sent <- err
	}()
	rounds := 0
	for going := true; going || rounds < 2; rounds++ {
		select {
		case err := <-sent:
			if going = false; err != nil {
				t.Fatal(err)
			}
		default:
		}
		config(fmt.Sprintf("topics: [rows/+], queue: %d", 100+rounds), "")
		reload(0, "gateway hall-7, process ")
		p.Line(`configuration reloaded`)
		config(fmt.Sprintf("topics: [rows/+], queue: %d", 200+rounds), "")
		p.Signal(syscall.SIGHUP)
		p.Line(`configuration reloaded`)
		config("topics: [rows/+], qeue: 5", "")
		reload(3, `gateway.yaml:4:36: unknown key "qeue" in streams.rows; did you mean "queue"?`)
		p.Line(`configuration not reloaded; the old one stays .*unknown key`)
		p.Signal(syscall.SIGHUP)
		p.Line(`configuration not reloaded; the old one stays .*unknown key`)
		config("topics: [rows/+]", "log: {level: debug}")
		reload(3, "not reloaded, the old configuration stays: log: cannot change while the gateway runs")
		p.Line(`configuration not reloaded`)
	}
	t.Logf("%d times four reloads", rounds)
	(&rig{t: t, web: web}).await("empty", func(l app.LinkStatus) bool { return l.PendingResults == 0 && l.Bridge.Acked >= total })
	if a := takeStock(t, recorded); len(a.ids) != total || a.last["gateways/hall-7/results/rows/a"] != total {
		t.Errorf("%d results arrived, the last is %d", len(a.ids), a.last["gateways/hall-7/results/rows/a"])
	}
	interrupt(t, p)
	reload(1, "no gateway runs")
}

// A reload with another file than the one that the gateway runs with cannot
// do what is meant. It says so at once, and the gateway hears nothing of it.
func TestReloadOtherFile(t *testing.T) {
	dir, web := t.TempDir(), testkit.FreeAddr(t)
	config := func(name, more string) string {
		return write(t, dir, name, fmt.Sprintf("gateway: hall-7\ndata: %s/data\nbroker: {listeners: [{tcp: 127.0.0.1:0}]}\ndashboard: {listen: %q}\n%s", dir, web, more))
	}
	file, other := config("gateway.yaml", ""), config("other.yaml", "streams: {rows: {topics: [rows], input: {json: [v]}}}\n")
	wrong := config("wrong.yaml", "streasm: {}\n")
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	p := start(t, "run", "--config", file)
	p.Line(` ready `)
	for _, c := range []struct {
		file string
		code int
		want string
	}{
		{other, 2, fmt.Sprintf("gateway hall-7, process %d, runs with %s, and reads no other file", statusOf(t, web).Process, file)},
		{wrong, 3, `did you mean "streams"?`},
		{filepath.Join(dir, "gone.yaml"), 3, "gone.yaml: no such file"},
	} {
		if got := run(t, "", "reload", "--config", c.file); got.code != c.code || !strings.Contains(got.stderr, c.want) {
			t.Errorf("%s: %d %q, want %q", c.file, got.code, got.stderr, c.want)
		}
	}
	if s := statusOf(t, web); s.Reload == nil || s.Reload.Count != 0 || s.Config != file {
		t.Errorf("the gateway was asked to reload: %+v", s)
	}
	done(t, "", "reload", "--config", link) // the same file by another name
	if s := statusOf(t, web); s.Reload.Count != 1 {
		t.Errorf("%+v", s.Reload)
	}

	// What the command refuses, the gateway refuses too: in its log, its status
	// and on watch. The dashboard is asked where it is, not where it would be.
	config("gateway.yaml", "streams: [\n")
	if got := run(t, "", "reload", "--config", file); got.code != 3 || !strings.Contains(got.stderr, "gateway.yaml:5:") {
		t.Errorf("%d %q", got.code, got.stderr)
	}
	p.Line(`configuration not reloaded; the old one stays .*gateway.yaml:5:`)
	write(t, dir, "gateway.yaml", strings.ReplaceAll(read(t, other), web, testkit.FreeAddr(t)))
	if got := run(t, "", "reload", "--config", file); got.code != 3 || !strings.Contains(got.stderr, "dashboard: cannot change") {
		t.Errorf("%d %q", got.code, got.stderr)
	}
	p.Line(`configuration not reloaded; the old one stays .*dashboard: cannot change`)
	if s := statusOf(t, web); s.Reload.Count != 3 || !strings.Contains(s.Reload.Error, "dashboard: cannot change") {
		t.Errorf("%+v", s.Reload)
	}
	if got := done(t, "", "watch", "--once", "--url", "http://"+web); !strings.Contains(got, "\nNOT RELOADED  dashboard: cannot change") {
		t.Error(got)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// statusOf reads a gateway's status page.
func statusOf(t *testing.T, web string) (s app.Status) {
	t.Helper()
	resp, err := http.Get("http://" + web + "/api/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// A gateway that does not answer by HTTP is asked all the same.
func TestReloadWithoutDashboard(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "gateway.yaml", fmt.Sprintf("gateway: hall-7\ndata: %s/data\nbroker: {listeners: [{tcp: 127.0.0.1:0}]}\ndashboard: {listen: ''}\n", dir))
	p := start(t, "run", "--config", file)
	p.Line(` ready `)
	if got := done(t, "", "reload", "--config", file); !strings.Contains(got, "its log says") {
		t.Error(got)
	}
	p.Line(`configuration reloaded`)
}

// systemd is told when the broker accepts and when the gateway stops.
func TestNotify(t *testing.T) {
	dir := t.TempDir()
	addr := filepath.Join(dir, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	said := func(want string) {
		t.Helper()
		b := make([]byte, 100)
		if err := manager.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if n, err := manager.Read(b); err != nil || string(b[:n]) != want {
			t.Errorf("%q, %v, want %q", b[:n], err, want)
		}
	}
	broker := testkit.FreeAddr(t)
	file := write(t, dir, "gateway.yaml", fmt.Sprintf("gateway: hall-7\ndata: %s/data\nbroker: {listeners: [{tcp: %q}]}\ndashboard: {listen: ''}\n", dir, broker))
	cmd := testkit.Command(t, "run", "--config", file)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+addr)
	p := testkit.Start(t, cmd)
	said("READY=1")
	if c, err := net.Dial("tcp", broker); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	interrupt(t, p)
	said("STOPPING=1")

	if err := os.Remove(addr); err != nil {
		t.Fatal(err)
	}
	cmd = testkit.Command(t, "run", "--config", file)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+addr)
	p = testkit.Start(t, cmd) // a manager that is gone is no reason to end
	p.Line(`systemd is not told of READY=1`)
	interrupt(t, p)
}

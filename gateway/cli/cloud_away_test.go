package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

const (
	awaySources = 4
	awayRows    = 5000 // of each source
	awayTotal   = awaySources * awayRows
)

// AWAY_SECONDS is how long the cloud stays away at least; a few messages'
// time where it is not set.
const awayEnv = "AWAY_SECONDS"

// rig is a gateway with a stream without a model and a way up.
type rig struct {
	t                        *testing.T
	config, broker, web, url string // url of the cloud
}

func newRig(t *testing.T) *rig {
	dir := t.TempDir()
	r := &rig{t: t, broker: testkit.FreeAddr(t), web: testkit.FreeAddr(t), url: testkit.FreeAddr(t)}
	r.config = write(t, dir, "gateway.yaml", fmt.Sprintf(`
gateway: hall-7
data: %s
broker: {listeners: [{tcp: "%s"}]}
streams:
  rows: {topics: [rows/+], input: {json: [v], seq: n}}
upstream:
  cloud: {url: "tcp://%s", retry_min: 50ms, retry_max: 500ms}
dashboard: {listen: "%s"}
`, filepath.Join(dir, "data"), r.broker, r.url, r.web))
	return r
}

func (r *rig) start() *testkit.Process {
	r.t.Helper()
	p := start(r.t, "run", "--config", r.config)
	p.Line(` ready `)
	return p
}

// fill publishes what there is to publish, as so many sensors, and returns
// when the gateway acknowledged all of it.
func (r *rig) fill(ctx context.Context) error {
	errs := make(chan error, awaySources)
	for s := range awaySources {
		go func() { errs <- r.sensor(ctx, s) }()
	}
	var all error
	for range awaySources {
		all = errors.Join(all, <-errs)
	}
	return all
}

func (r *rig) sensor(ctx context.Context, number int) error {
	conn, err := link.Connect(ctx, link.Config{URL: "tcp://" + r.broker, ClientID: fmt.Sprint("sensor", number)})
	if err != nil {
		return err
	}
	defer conn.Close()
	const window = 50
	for n := 1; n <= awayRows; n += window {
		var msgs []link.Msg
		for i := n; i < n+window; i++ {
			msgs = append(msgs, link.Msg{Topic: fmt.Sprint("rows/s", number), QoS: 1, Payload: fmt.Appendf(nil, `{"n":%d,"v":%d.5}`, i, i)})
		}
		if _, err := conn.Window(ctx, msgs); err != nil {
			return err
		}
	}
	return nil
}

// await asks the gateway for its link's state until it is as wanted.
func (r *rig) await(what string, ok func(app.LinkStatus) bool) {
	r.t.Helper()
	late := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last app.LinkStatus
	for {
		if resp, err := http.Get("http://" + r.web + "/api/status"); err == nil {
			var s app.Status
			err = json.NewDecoder(resp.Body).Decode(&s)
			resp.Body.Close()
			if err == nil && len(s.Links) == 1 {
				if last = s.Links[0]; ok(last) {
					return
				}
			}
		}
		select {
		case <-tick.C:
		case <-late:
			r.t.Fatalf("not %s: %+v", what, last)
		}
	}
}

func (r *rig) check(file string) {
	r.t.Helper()
	a := takeStock(r.t, file)
	for s := range awaySources {
		if topic := fmt.Sprintf("gateways/hall-7/results/rows/s%d", s); a.last[topic] != awayRows {
			r.t.Errorf("%s ends with %d", topic, a.last[topic])
		}
	}
	r.t.Logf("%d results arrived, %d of them twice, all in order", len(a.ids), a.duplicates)
	if len(a.ids) != awayTotal {
		r.t.Errorf("%d results arrived", len(a.ids))
	}
}

// The cloud is killed in the middle of 20,000 results and comes back later.
func TestCloudAway(t *testing.T) {
	r, file := newRig(t), filepath.Join(t.TempDir(), "recorded")
	cloud := start(t, recorderCommand, r.url, file)
	cloud.Line(`^recording$`)
	r.start()
	filled := make(chan error, 1)
	go func() { filled <- r.fill(t.Context()) }()
	cloud.Line(`^recorded 5000$`)
	cloud.Kill()
	killed := time.Now()
	r.await("away, with results waiting", func(l app.LinkStatus) bool { return !l.Bridge.Connected && l.PendingResults > 0 })
	if err := <-filled; err != nil {
		t.Fatal(err)
	}
	if s := os.Getenv(awayEnv); s != "" {
		d, err := time.ParseDuration(s + "s")
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Until(killed.Add(d)))
	}
	away := time.Since(killed)
	start(t, recorderCommand, r.url, file)
	r.await("empty", func(l app.LinkStatus) bool { return l.PendingResults == 0 })
	t.Logf("the cloud was away for %.1f s; %.1f s after it came back nothing waited", away.Seconds(), time.Since(killed).Seconds()-away.Seconds())
	r.check(file)
}

// The gateway is killed with 20,000 results in line, and again while they go
// up. What it had not acknowledged may come twice, nothing is lost.
func TestGatewayKilledWithFullOutbox(t *testing.T) {
	r, file := newRig(t), filepath.Join(t.TempDir(), "recorded")
	gateway := r.start()
	if err := r.fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.await("all in line", func(l app.LinkStatus) bool { return l.PendingResults == awayTotal })
	gateway.Kill()
	cloud := start(t, recorderCommand, r.url, file)
	cloud.Line(`^recording$`)
	gateway = r.start()
	cloud.Line(`^recorded 7000$`)
	gateway.Kill()
	r.start()
	r.await("empty", func(l app.LinkStatus) bool { return l.PendingResults == 0 })
	r.check(file)
}

// The same with a foreign cloud: mosquitto is restarted in the middle, as for
// an update, and what it acknowledged waits in it for a subscriber.
func TestMosquittoAway(t *testing.T) {
	r, dir := newRig(t), t.TempDir()
	_, port, _ := strings.Cut(r.url, ":")
	conf := write(t, dir, "mosquitto.conf", fmt.Sprintf(
		"listener %s 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location %s/\nmax_queued_messages 0\nmax_inflight_messages 100\n", port, dir))
	broker := foreign(t, "mosquitto", "-c", conf)
	broker.Line(`running`)
	// stdbuf, since into a pipe it would write whole blocks.
	sub := foreign(t, "stdbuf", "-oL", testkit.Program(t, "mosquitto_sub"), "-p", port, "-c", "-i", "watcher", "-q", "1", "-d", "-F", "GOT %t %p", "-t", "gateways/hall-7/results/#", "-t", "done")
	sub.Line(`SUBACK`)
	r.start()
	filled := make(chan error, 1)
	go func() { filled <- r.fill(t.Context()) }()
	sub.Line(`GOT .*"seq":1000,`)
	broker.Signal(syscall.SIGTERM)
	broker.Exit()
	r.await("away, with results waiting", func(l app.LinkStatus) bool { return !l.Bridge.Connected && l.PendingResults > 0 })
	if err := <-filled; err != nil {
		t.Fatal(err)
	}
	foreign(t, "mosquitto", "-c", conf).Line(`running`)
	r.await("empty", func(l app.LinkStatus) bool { return l.PendingResults == 0 })
	if got := run(t, "", "publish", "--broker", "127.0.0.1:"+port, "done", "yes"); got.code != 0 {
		t.Fatal(got.stderr)
	}
	sub.Line(`GOT done yes`)
	file := write(t, dir, "recorded", strings.ReplaceAll(sub.Output(), "GOT ", ""))
	r.check(file)
}

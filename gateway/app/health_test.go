package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// A full disk is told by health and counted, holds up nothing here, and is
// over as soon as there is room again.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "edge")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("edge", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("no small disk: only root can mount one here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	nobody := "tcp://127.0.0.1:1"
	g := begin(t, dir, "edge", room+cloudOf(nobody))
	here := g.subscribe("results/#")
	c := g.client("sensor")
	base := "http://" + g.DashboardAddr()
	until(t, "health", func() bool { code, _ := get(t, base+"/healthz"); return code == http.StatusOK })

	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	seq := 0
	send := func() {
		seq++
		publish(t, c, "room/hall/climate", fmt.Sprintf(`{"v":1,"n":%d}`, seq))
		here.on("results/room/hall", fmt.Sprintf(`"seq":%d,`, seq)) // here it goes on
	}
	ill := func() bool {
		code, body := get(t, base+"/healthz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, `"part":"outbox cloud","ok":false`) && strings.Contains(body, syscall.ENOSPC.Error())
	}
	until(t, "illness", func() bool { send(); return ill() })
	if code, _ := get(t, base+"/readyz"); code != http.StatusOK {
		t.Errorf("not ready: %d", code)
	}
	until(t, "a count of what is lost", func() bool {
		_, metrics := get(t, base+"/metrics")
		return strings.Contains(metrics, `edgegateway_upstream_dropped_total{class="results",reason="disk",stream="room",upstream="cloud"}`)
	})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	until(t, "health again", func() bool { send(); return !ill() })
	if n := strings.Count(g.log.String(), "the disk takes nothing"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}

// fill writes a file until the disk takes no byte more.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{4096, 1} {
		for b := make([]byte, size); err == nil; {
			_, err = f.Write(b)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}

// A gateway that stops is not ready any more, from the first moment on, while
// it still finishes what it has.
func TestNotReadyWhileItStops(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "edge.yaml")
	if err := os.WriteFile(file, []byte("gateway: edge\ndata: "+dir+"/data"+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(cfg, nil, nil, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	hold := make(chan struct{})
	a.stages = append([]stage{{"held", func(ctx context.Context) error {
		<-ctx.Done()
		<-hold
		return nil
	}}}, a.stages...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	ready := func() bool { code, _ := get(t, "http://"+a.DashboardAddr()+"/readyz"); return code == http.StatusOK }
	until(t, "readiness", ready)
	cancel()
	until(t, "no readiness", func() bool { return !ready() })
	close(hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if a.Ready() {
		t.Error("ready after it stopped")
	}
}

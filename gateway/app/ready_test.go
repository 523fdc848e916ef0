package app

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// A gateway without a dashboard says nothing of one; one without anything has
// empty lists in its status, and no reload yet.
func TestReadyWithoutDashboard(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Data = t.TempDir()
	cfg.Broker.Listeners[0].TCP = "127.0.0.1:0"
	cfg.Dashboard.Listen = ""
	log := &testkit.Buffer{}
	a, err := New(cfg, nil, nil, zerolog.New(log), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	until(t, "the line", func() bool { return strings.Contains(log.String(), `"ready"`) })
	status, err := json.Marshal(a.Status())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"streams":[]`, `"models":[]`, `"alerts":[]`, `"upstream":[]`, `"reload":{"count":0}`} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %s in %s", want, status)
		}
	}
	stop()
	if err := <-done; err != nil || strings.Contains(log.String(), "dashboard") {
		t.Errorf("%v: %s", err, log)
	}
}

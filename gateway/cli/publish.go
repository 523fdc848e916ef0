package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/sensors"
	"github.com/spf13/cobra"

	"edgegateway/internal/link"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func publishCommand() *cobra.Command {
	var c clientFlags
	var host, retain bool
	var every time.Duration
	var qos int
	cmd := &cobra.Command{
		Use:   "publish TOPIC [PAYLOAD]",
		Short: "Publish one message, a file, or this machine's own telemetry",
		Long: `Publish one message: PAYLOAD, @FILE, or standard input where it is -.
With --host, publish this machine's telemetry as JSON every second until Ctrl-C:
cpu, memory, disk (fractions), net_rx, net_tx (bytes a second), and temperature
(degrees Celsius) where there is a sensor.`,
		Example: `  edgegateway publish factory/press7/vibration '{"rms": 0.4}'
  edgegateway publish camera/porch @door.jpg
  edgegateway publish --host host/$(hostname)/telemetry`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if qos != 0 && qos != 1 {
				return &exitError{exitUsage, fmt.Errorf("--qos is 0 or 1")}
			}
			if strings.ContainsAny(args[0], "+#") {
				return &exitError{exitUsage, fmt.Errorf("%s: a wildcard is for subscribing; name one topic", args[0])}
			}
			ctx := cmd.Context()
			var payload []byte
			var err error
			switch {
			case host && len(args) == 2, !host && len(args) == 1:
				return &exitError{exitUsage, fmt.Errorf("give a payload or --host")}
			case !host:
				if payload, err = readPayload(args[1]); err != nil {
					return err
				}
			}
			conn, err := c.connect(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			msg := link.Msg{Topic: args[0], Payload: payload, QoS: byte(qos), Retain: retain}
			if !host {
				return c.refused(ctx, msg.Topic, len(payload), conn.Publish(ctx, msg))
			}
			return c.refused(ctx, msg.Topic, 0, publishHost(ctx, conn, msg, every))
		},
	}
	c.add(cmd)
	cmd.Flags().BoolVar(&host, "host", false, "publish this machine's telemetry")
	cmd.Flags().DurationVar(&every, "every", time.Second, "with --host: from one reading to the next")
	cmd.Flags().BoolVar(&retain, "retain", false, "the broker keeps it for later subscribers")
	cmd.Flags().IntVar(&qos, "qos", 1, "0 or 1")
	return cmd
}

func readPayload(arg string) ([]byte, error) {
	switch {
	case arg == "-":
		return io.ReadAll(os.Stdin)
	case len(arg) > 1 && arg[0] == '@':
		return os.ReadFile(arg[1:])
	}
	return []byte(arg), nil
}

// publishHost publishes a reading of this machine each time until ctx ends.
func publishHost(ctx context.Context, conn *link.Conn, msg link.Msg, every time.Duration) error {
	var h hostReader
	h.read() // the first one begins the rates
	tick := time.NewTicker(max(every, 100*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-conn.Done():
			return conn.Err()
		case <-tick.C:
		}
		var err error
		if msg.Payload, err = json.Marshal(h.read()); err != nil {
			return err
		}
		if err := conn.Publish(ctx, msg); err != nil {
			return err
		}
	}
}

// hostReader reads this machine's telemetry; rates are since the last reading.
type hostReader struct {
	at     time.Time
	rx, tx uint64
	seq    uint64
}

// reading is one JSON payload of publish --host. What this machine does not
// tell is absent.
type reading struct {
	Time        float64  `json:"time"` // seconds since 1970
	Seq         uint64   `json:"seq"`
	CPU         *float64 `json:"cpu,omitempty"`
	Memory      *float64 `json:"memory,omitempty"`
	Disk        *float64 `json:"disk,omitempty"`
	NetRx       *float64 `json:"net_rx,omitempty"`
	NetTx       *float64 `json:"net_tx,omitempty"`
	Temperature *float64 `json:"temperature,omitempty"`
}

func (h *hostReader) read() reading {
	now := time.Now()
	r := reading{Time: float64(now.UnixMicro()) / 1e6, Seq: h.seq}
	h.seq++
	fraction := func(percent float64) *float64 { percent /= 100; return &percent }
	if p, err := cpu.Percent(0, false); err == nil && len(p) == 1 {
		r.CPU = fraction(p[0])
	}
	if m, err := mem.VirtualMemory(); err == nil {
		r.Memory = fraction(m.UsedPercent)
	}
	if d, err := disk.Usage("/"); err == nil {
		r.Disk = fraction(d.UsedPercent)
	}
	if n, err := net.IOCounters(false); err == nil && len(n) == 1 {
		if s := now.Sub(h.at).Seconds(); !h.at.IsZero() && n[0].BytesRecv >= h.rx && n[0].BytesSent >= h.tx {
			rx, tx := float64(n[0].BytesRecv-h.rx)/s, float64(n[0].BytesSent-h.tx)/s
			r.NetRx, r.NetTx = &rx, &tx
		}
		h.rx, h.tx = n[0].BytesRecv, n[0].BytesSent
	}
	if t, err := sensors.SensorsTemperatures(); err == nil {
		for _, s := range t {
			if s.Temperature > 0 && (r.Temperature == nil || s.Temperature > *r.Temperature) {
				r.Temperature = &s.Temperature
			}
		}
	}
	h.at = now
	return r
}

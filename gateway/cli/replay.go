package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/internal/link"
	"edgegateway/sensors"
)

func replayCommand() *cobra.Command {
	var c clientFlags
	r := replay{}
	cmd := &cobra.Command{
		Use:   "replay TOPIC FILE|FOLDER...",
		Short: "Publish the rows of CSV files or the pictures of folders, as a client would",
		Long: `Publish the rows of CSV files, one message a row, or pictures, one a message, in
the order of their names. --every gives the rhythm, --original takes it from the
rows' own times, and without either it goes as fast as the broker takes it.`,
		Example: `  edgegateway replay room/office occupancy.csv --skip 1
  edgegateway replay factory/mill/3 machine.csv --original date --speed 60
  edgegateway replay camera/porch photos/ --every 500ms --loop`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.qos != 0 && r.qos != 1 || r.speed <= 0 {
				return &exitError{exitUsage, errors.New("--qos is 0 or 1, --speed is positive")}
			}
			items, err := r.items(args[1:])
			if err != nil {
				return err
			}
			conn, err := c.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer conn.Close()
			size, err := r.run(cmd.Context(), conn, args[0], items)
			return c.refused(cmd.Context(), args[0], size, err)
		},
	}
	c.add(cmd)
	f := cmd.Flags()
	f.DurationVar(&r.every, "every", 0, "from one message to the next")
	f.StringVar(&r.original, "original", "", "column whose times give the rhythm")
	f.Float64Var(&r.speed, "speed", 1, "with --original: so many times as fast")
	f.IntVar(&r.skip, "skip", 0, "lines to skip at the head of each file (its header)")
	f.BoolVar(&r.loop, "loop", false, "begin again at the end, until Ctrl-C")
	f.BoolVar(&r.quiet, "quiet", false, "no progress bar")
	f.IntVar(&r.qos, "qos", 1, "0 or 1")
	return cmd
}

// replay publishes recorded rows or pictures.
type replay struct {
	every    time.Duration
	original string
	speed    float64
	skip     int
	loop     bool
	quiet    bool
	qos      int
}

// recorded is one message to be: a row, or the path of a picture.
type recorded struct {
	row  []byte
	path string
	at   time.Time
}

func (r *replay) items(paths []string) ([]recorded, error) {
	var list []recorded
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		switch {
		case info.IsDir():
			entries, err := os.ReadDir(p)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if isPicture(e.Name()) {
					list = append(list, recorded{path: filepath.Join(p, e.Name())})
				}
			}
		case isPicture(p):
			list = append(list, recorded{path: p})
		default:
			if list, err = r.rows(list, p); err != nil {
				return nil, err
			}
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("nothing to replay: no rows, no .jpg, .png or .bmp in %s", strings.Join(paths, ", "))
	}
	return list, nil
}

func isPicture(name string) bool {
	return slices.Contains([]string{".jpg", ".jpeg", ".png", ".bmp"}, strings.ToLower(filepath.Ext(name)))
}

func (r *replay) rows(list []recorded, path string) ([]recorded, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var times sensors.Decoder
	in := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		line = []byte(strings.TrimRight(strings.TrimPrefix(string(line), "\ufeff"), "\r\n"))
		if n == 1 && r.original != "" {
			cfg := sensors.DefaultInputConfig()
			cfg.CSV = &sensors.CSVConfig{Columns: strings.Split(strings.ReplaceAll(string(line), `"`, ""), ",")}
			cfg.CSV.Values = []string{}
			cfg.Time = r.original
			if times, err = sensors.NewDecoder(cfg); err != nil {
				return nil, fmt.Errorf("%s: its first line names no column %q: %w", path, r.original, err)
			}
			continue
		}
		if n > r.skip && len(line) > 0 {
			item := recorded{row: line}
			if times != nil {
				var s sensors.Sample
				if err := times.Decode(line, &s); err != nil {
					return nil, fmt.Errorf("%s:%d: %w", path, n, err)
				}
				item.at = s.Time
			}
			list = append(list, item)
		}
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
}

// inFlight is how many QoS 1 messages wait for their acknowledgement.
const inFlight = 64

// run publishes all; size is the length of the longest message it sent.
func (r *replay) run(ctx context.Context, conn *link.Conn, topic string, items []recorded) (size int, err error) {
	bar := progress(len(items), "replay", r.quiet || r.loop)
	var waits []func(context.Context) error
	settle := func(keep int) error {
		for len(waits) > keep {
			if err := waits[0](ctx); err != nil {
				return err
			}
			waits = waits[1:]
			bar.Add(1)
		}
		return nil
	}
	sent := 0
	for {
		next := time.Now()
		for i, it := range items {
			payload := it.row
			if it.path != "" {
				var err error
				if payload, err = os.ReadFile(it.path); err != nil {
					return size, err
				}
			}
			size = max(size, len(payload))
			waits = append(waits, conn.Start(link.Msg{Topic: topic, Payload: payload, QoS: byte(r.qos)}))
			sent++
			if err := settle(inFlight - 1); err != nil {
				return size, err
			}
			pause := r.every
			if !it.at.IsZero() && i+1 < len(items) {
				pause = time.Duration(float64(max(items[i+1].at.Sub(it.at), 0)) / r.speed)
			}
			if pause == 0 {
				if ctx.Err() != nil {
					return size, nil
				}
				continue
			}
			next = next.Add(pause)
			select {
			case <-ctx.Done():
				return size, nil
			case <-conn.Done():
				return size, conn.Err()
			case <-time.After(time.Until(next)):
			}
		}
		if !r.loop {
			break
		}
	}
	if err := settle(0); err != nil {
		return size, err
	}
	bar.Finish()
	fmt.Fprintf(os.Stderr, "%d messages published\n", sent)
	return size, nil
}

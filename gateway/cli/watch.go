package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	neturl "net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"edgegateway/gateway/app"
)

func watchCommand() *cobra.Command {
	var url, config string
	var once bool
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show a running gateway's streams, models, alerts and links, each second",
		Long: `Show a running gateway's streams, models, alerts and links, anew each second
until Ctrl-C. The gateway is the one at --url, or that which runs with the data
folder of --config.`,
		Example: "  edgegateway watch --config /etc/edgegateway.yaml\n  edgegateway watch --url http://hall-7:9464 --once",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := statusAddress(url)
			if err == nil && config != "" {
				if cmd.Flags().Changed("url") {
					return &exitError{exitUsage, errors.New("give --url or --config, not both")}
				}
				address, err = statusOf(config)
			}
			if err != nil {
				return err
			}
			return watch(cmd.Context(), address, once)
		},
	}
	cmd.Flags().StringVar(&url, "url", "http://127.0.0.1:9464", "the gateway's dashboard: http://HOST:PORT or HOST:PORT")
	cmd.Flags().StringVarP(&config, "config", "c", "", "configuration file of a gateway that runs on this machine")
	cmd.Flags().BoolVar(&once, "once", false, "print once and end")
	completeFiles(cmd, "config", "yaml", "yml")
	return cmd
}

// watch prints the gateway's state each second: on a terminal in place of the
// one before, elsewhere behind a line that parts them.
func watch(ctx context.Context, address string, once bool) error {
	terminal := term.IsTerminal(int(os.Stdout.Fd()))
	last := map[string]uint64{}
	var at time.Time
	for {
		s, err := readStatus(ctx, address)
		if err != nil {
			return err
		}
		now := time.Now()
		switch {
		case once:
		case terminal:
			fmt.Print("\x1b[H\x1b[2J")
		case !at.IsZero():
			fmt.Println("\n" + strings.Repeat("-", 80))
		}
		printStatus(os.Stdout, s, now, last, now.Sub(at))
		at = now
		if once {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// statusAddress makes an address that HTTP takes of --url.
func statusAddress(text string) (string, error) {
	full := text
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := neturl.Parse(full)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Host, ":") == "" {
		return "", &exitError{exitUsage, fmt.Errorf("--url: %q is no address of a dashboard such as http://127.0.0.1:9464 or 127.0.0.1:9464", text)}
	}
	return full, nil
}

// statusOf is the dashboard of the gateway that runs with a configuration.
func statusOf(config string) (string, error) {
	cfg, err := app.LoadConfig(config)
	if errors.Is(err, fs.ErrNotExist) {
		return "", invalid(err)
	}
	if err != nil { // it runs with what was right
		cfg.Data = dataOf(config)
	}
	g, err := app.Holder(cfg.Data)
	switch {
	case err != nil:
		return "", err
	case g == nil:
		return "", noGateway(cfg.Data)
	case g.Dashboard == "":
		return "", fmt.Errorf("gateway %s, process %d, has no dashboard: dashboard.listen of its configuration is empty", g.Gateway, g.Process)
	}
	return "http://" + g.Dashboard, nil
}

func readStatus(ctx context.Context, url string) (s app.Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/api/status", nil)
	if err != nil {
		return s, &exitError{exitUsage, fmt.Errorf("--url: %w", err)}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, fmt.Errorf("no gateway answers at %s (dashboard.listen of its configuration): %w", url, err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(&s); err != nil {
		return s, fmt.Errorf("%s: is no gateway: %w", url, err)
	}
	return s, nil
}

func printStatus(out io.Writer, s app.Status, now time.Time, last map[string]uint64, since time.Duration) {
	fmt.Fprintf(out, "%s  gateway %s, %s, broker %s\n\n", now.Format(time.DateTime), s.Gateway, count(s.Clients, "client"), strings.Join(s.Broker, " "))
	w := tabwriter.NewWriter(out, 2, 4, 2, ' ', 0)
	fmt.Fprintln(w, "STREAM\tMODEL\tIN\tRESULTS\tPER S\tQUEUED\tDROPPED")
	for _, st := range s.Streams {
		rate := "-"
		if before, ok := last[st.Stream]; ok && since > 0 && st.Results >= before { // it counts from its start
			rate = fmt.Sprintf("%.1f", float64(st.Results-before)/since.Seconds())
		}
		last[st.Stream] = st.Results
		var drops []string
		for _, why := range sortedKeys(st.Drops) {
			drops = append(drops, fmt.Sprintf("%s %d", why, st.Drops[why]))
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%d\t%s\n", st.Stream, st.Model, st.In, st.Results, rate, st.Queued, strings.Join(drops, ", "))
	}
	if len(s.Models) > 0 {
		fmt.Fprintln(w, "\nMODEL\tVERSION\tRUNS ON\tWHY")
		for _, m := range s.Models {
			version := m.Version
			if version == "" {
				version = "-" // the configuration's file
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.Name, version, m.Delegate, m.Why)
		}
	}
	if len(s.Links) > 0 {
		fmt.Fprintln(w, "\nUP\tSTATE\tALERTS QUEUED\tRESULTS QUEUED\tACKNOWLEDGED\tWHY")
		for _, l := range s.Links {
			state := "connected"
			if !l.Bridge.Connected {
				state = "away"
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\n", l.Name, state, l.PendingAlerts, l.PendingResults, l.Bridge.Acked, l.Bridge.LastError)
		}
	}
	for _, a := range s.Alerts {
		fmt.Fprintf(w, "\nALERT\t%s\t%s\tsince %s\n", a.Alert, a.Message, a.Since.Local().Format(time.DateTime))
	}
	if s.Reload != nil && s.Reload.Error != "" {
		fmt.Fprintf(w, "\nNOT RELOADED\t%s\n", strings.ReplaceAll(s.Reload.Error, "\n", "\n\t"))
	}
	w.Flush()
}

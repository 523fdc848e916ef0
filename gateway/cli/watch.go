package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"edgegateway/gateway/app"
)

func watchCommand() *cobra.Command {
	var url string
	var once bool
	cmd := &cobra.Command{
		Use:     "watch",
		Short:   "Show a running gateway's streams, models, alerts and links, each second",
		Example: "  edgegateway watch --url http://127.0.0.1:9464\n  edgegateway watch --once",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			last := map[string]uint64{}
			var at time.Time
			for {
				s, err := readStatus(cmd.Context(), url)
				if err != nil {
					return err
				}
				now := time.Now()
				if term.IsTerminal(int(os.Stdout.Fd())) && !once {
					fmt.Print("\x1b[H\x1b[2J")
				}
				printStatus(os.Stdout, s, last, now.Sub(at))
				at = now
				if once {
					return nil
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(time.Second):
				}
			}
		},
	}
	cmd.Flags().StringVar(&url, "url", "http://127.0.0.1:9464", "the gateway's dashboard")
	cmd.Flags().BoolVar(&once, "once", false, "print once and end")
	return cmd
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

func printStatus(out io.Writer, s app.Status, last map[string]uint64, since time.Duration) {
	fmt.Fprintf(out, "gateway %s, %d clients, broker %s\n\n", s.Gateway, s.Clients, strings.Join(s.Broker, " "))
	w := tabwriter.NewWriter(out, 2, 4, 2, ' ', 0)
	fmt.Fprintln(w, "STREAM\tMODEL\tIN\tRESULTS\tPER S\tQUEUED\tDROPPED")
	for _, st := range s.Streams {
		rate := "-"
		if before, ok := last[st.Stream]; ok && since > 0 {
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
		fmt.Fprintln(w, "\nMODEL\tRUNS ON\tWHY")
		for _, m := range s.Models {
			fmt.Fprintf(w, "%s\t%s\t%s\n", m.Name, m.Delegate, m.Why)
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

package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"edgegateway/internal/link"
)

func subCommand() *cobra.Command {
	var c clientFlags
	var raw bool
	var count int
	cmd := &cobra.Command{
		Use:   "sub [TOPIC...]",
		Short: "Subscribe and print what comes, a line each",
		Example: `  edgegateway sub --broker tcp://127.0.0.1:1883 'results/#' 'alerts/#'
  edgegateway sub --raw --count 1 results/porch/front | jq .`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"#"}
			}
			ctx := cmd.Context()
			conn, err := c.connect(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			enough := make(chan struct{})
			var mu sync.Mutex
			n := 0
			out := bufio.NewWriter(os.Stdout)
			err = conn.Subscribe(ctx, args, 1, func(m link.Msg) {
				mu.Lock()
				defer mu.Unlock()
				if count > 0 && n == count {
					return
				}
				n++
				if raw {
					out.Write(append(m.Payload, '\n'))
				} else {
					printMessage(out, m)
				}
				out.Flush()
				if n == count {
					close(enough)
				}
			})
			if err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-enough:
				return nil
			case <-conn.Done():
				return conn.Err()
			}
		},
	}
	c.add(cmd)
	cmd.Flags().BoolVar(&raw, "raw", false, "print payloads alone, as they are")
	cmd.Flags().IntVarP(&count, "count", "n", 0, "end after so many messages")
	return cmd
}

// printMessage writes one short line for a person.
func printMessage(w io.Writer, m link.Msg) {
	fmt.Fprintf(w, "%s %s\n", m.Topic, summary(m.Payload))
}

// said is what a line shows of a result or an alert.
type said struct {
	ID       string             `json:"id"`
	State    string             `json:"state"`
	Alert    string             `json:"alert"`
	Message  string             `json:"message"`
	Label    string             `json:"label"`
	Score    *float64           `json:"score"`
	Time     time.Time          `json:"time"`
	Since    time.Time          `json:"since"`
	Features map[string]float64 `json:"features"`
	Objects  []struct {
		Label string  `json:"label"`
		Score float64 `json:"score"`
	} `json:"objects"`
	TookUs int64 `json:"took_us"`
}

// summary is a payload in one line: what a result or alert says, else the
// text itself, else its size.
func summary(payload []byte) string {
	var s said
	if len(payload) > 0 && payload[0] == '{' && json.Unmarshal(payload, &s) == nil && s.ID != "" {
		return s.line()
	}
	text := string(payload)
	if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\x1b") {
		return fmt.Sprintf("(%d bytes)", len(payload))
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 160 {
		text = text[:157] + "..."
	}
	return text
}

func (s said) line() string {
	var b strings.Builder
	if s.Alert != "" {
		fmt.Fprintf(&b, "ALERT %s %s", s.Alert, s.State)
		switch {
		case s.State == "cleared":
			fmt.Fprintf(&b, " after %v", s.Time.Sub(s.Since).Round(time.Second))
		case s.Message != "":
			fmt.Fprintf(&b, ": %s", s.Message)
		}
		return b.String()
	}
	label := ""
	for i, o := range s.Objects {
		switch {
		case i == 0:
			b.WriteString(o.Label)
		case o.Label != label:
			fmt.Fprintf(&b, ", %s", o.Label)
		}
		fmt.Fprintf(&b, " %.2f", o.Score)
		label = o.Label
	}
	switch {
	case len(s.Objects) > 0:
	case s.Label != "" && s.Score != nil:
		fmt.Fprintf(&b, "%s %.2f", s.Label, *s.Score)
	case len(s.Features) == 0 && s.TookUs > 0:
		b.WriteString("nothing found")
	}
	names := sortedKeys(s.Features)
	for i, name := range names {
		if i == 6 {
			fmt.Fprintf(&b, " ... %d more", len(names)-i)
			break
		}
		fmt.Fprintf(&b, " %s=%.3g", name, s.Features[name])
	}
	if s.TookUs > 0 {
		fmt.Fprintf(&b, " (%.1f ms)", float64(s.TookUs)/1000)
	}
	return strings.TrimSpace(b.String())
}

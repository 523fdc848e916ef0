package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"edgegateway/internal/link"
)

func subCommand() *cobra.Command {
	var c clientFlags
	var raw, stamped bool
	var count int
	cmd := &cobra.Command{
		Use:   "sub [TOPIC...]",
		Short: "Subscribe and print what comes, a line each",
		Long: `Subscribe and print what comes, a line each: results and alerts in short, other
payloads as text. On a terminal each line begins with the time at which it came;
--time does so elsewhere, --time=false nowhere. What the broker had kept is
marked as retained, with its age where the payload tells its time. --raw prints
payloads alone, for programs.`,
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
			out, width := bufio.NewWriter(os.Stdout), lineWidth(200)
			if !cmd.Flags().Changed("time") {
				stamped = term.IsTerminal(int(os.Stdout.Fd()))
			}
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
					head := heading(m, time.Now(), stamped)
					fmt.Fprintln(out, head, summary(m.Payload, width-len([]rune(head))-1))
				}
				out.Flush()
				if n == count {
					close(enough)
				}
			})
			if errors.Is(err, link.ErrRefused) {
				err = fmt.Errorf("%w: %s", err, c.mayNot("subscribe", strings.Join(args, " ")))
			}
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
	cmd.Flags().BoolVar(&stamped, "time", false, "begin each line with the time at which it came; on a terminal it does")
	cmd.Flags().BoolVar(&raw, "raw", false, "print payloads alone, as they are")
	cmd.Flags().IntVarP(&count, "count", "n", 0, "end after so many messages")
	return cmd
}

// heading is what stands before the payload of a message that came now.
func heading(m link.Msg, now time.Time, stamped bool) string {
	text := printable(m.Topic)
	if stamped {
		text = now.Format(time.TimeOnly) + " " + text
	}
	if !m.Retain {
		return text
	}
	if at := timeOf(m.Payload); !at.IsZero() && !at.After(now) {
		return text + " (retained, " + ago(now.Sub(at)) + " old)"
	}
	return text + " (retained)"
}

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

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
			out, width := bufio.NewWriter(os.Stdout), lineWidth(200)
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
					fmt.Fprintln(out, printable(m.Topic), summary(m.Payload, width-len(m.Topic)-1))
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
	cmd.Flags().BoolVar(&raw, "raw", false, "print payloads alone, as they are")
	cmd.Flags().IntVarP(&count, "count", "n", 0, "end after so many messages")
	return cmd
}

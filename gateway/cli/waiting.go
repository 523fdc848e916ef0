package cli

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// waiting says on a terminal what is waited for, and for how long, where
// nobody knows how long it takes. The function that it gives ends that.
func waiting(what string) (done func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func() {}
	}
	stop := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for began := time.Now(); ; {
			line := fmt.Sprintf("%s (%.0f s)", what, time.Since(began).Seconds())
			fmt.Fprint(os.Stderr, line)
			select {
			case <-stop:
				fmt.Fprintf(os.Stderr, "\r%s\r", strings.Repeat(" ", len(line)))
				return
			case <-tick.C:
				fmt.Fprint(os.Stderr, "\r")
			}
		}
	})
	return func() { close(stop); beside.Wait() }
}

// progress is a bar of so many steps, drawn on a terminal alone. It has a
// length always: without one the library draws in a goroutine of its own.
func progress(steps int, what string, quiet bool) *progressbar.ProgressBar {
	if quiet || !term.IsTerminal(int(os.Stderr.Fd())) {
		return progressbar.DefaultSilent(int64(steps))
	}
	return progressbar.NewOptions(steps, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(os.Stderr),
		progressbar.OptionSetWidth(20), progressbar.OptionShowCount(), progressbar.OptionThrottle(65*time.Millisecond), progressbar.OptionClearOnFinish())
}

package app

import (
	"context"
	"fmt"
	"time"
)

// stage is one part of the gateway with a life of its own.
type stage struct {
	name string
	run  func(context.Context) error
}

type ended struct {
	stage int
	err   error
}

// runStages starts all stages, and when ctx ends, or one of them fails, ends
// them one after the other in the order of the list: each has what the one
// before it handed over. After grace the rest is cut short by cut.
func runStages(ctx context.Context, stages []stage, grace time.Duration, cut func()) error {
	done := make(chan ended, len(stages))
	stops := make([]context.CancelFunc, len(stages))
	for i, s := range stages {
		var own context.Context
		own, stops[i] = context.WithCancel(context.Background())
		go func() {
			err := s.run(own)
			if err == nil && own.Err() == nil {
				err = fmt.Errorf("ended by itself")
			}
			done <- ended{i, err}
		}()
	}
	gone := make([]bool, len(stages))
	var first error
	note := func(e ended) {
		gone[e.stage] = true
		if e.err != nil && first == nil {
			first = fmt.Errorf("%s: %w", stages[e.stage].name, e.err)
		}
	}
	select {
	case <-ctx.Done():
	case e := <-done:
		note(e)
	}
	timer := time.AfterFunc(grace, func() {
		cut()
		for _, stop := range stops {
			stop()
		}
	})
	defer timer.Stop()
	for i := range stages {
		stops[i]()
		for !gone[i] {
			note(<-done)
		}
	}
	return first
}

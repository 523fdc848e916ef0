package learn

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"edgegateway/fl"
	"edgegateway/gateway/dataset"
	"edgegateway/infer/train"
)

// samples are those of the stream that a task names; it is fl's Dataset. They
// are read in the child process: here they are counted alone.
type samples struct {
	g     *Gateway
	task  *fl.Task
	count *dataset.Counter
	last  dataset.Labelled       // what count counts
	busy  chan struct{}          // holds a value while it counts
	other atomic.Pointer[string] // why some of them are none, as it was counted last
}

func newSamples(g *Gateway, task *fl.Task) *samples {
	return &samples{g: g, task: task, busy: make(chan struct{}, 1)}
}

// labelled is where they are, and how the stream gives them to its model now.
func (s *samples) labelled() (*dataset.Labelled, error) {
	name := s.task.Data.Stream
	cfg, ok := s.g.Streams()[name]
	if !ok || cfg.Record == nil {
		return nil, fl.Told("this gateway has no stream " + name + " that records")
	}
	m := &s.task.Model
	l := &dataset.Labelled{Dir: dataset.Dir(s.g.Data, name), Input: m.Input, Classes: m.Classes, Values: m.Values, Picture: cfg.Picture, Normalise: cfg.Normalise}
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	return l, nil
}

// Count is fl's. A stream that is not there, or does not record, has none.
func (s *samples) Count(ctx context.Context) (int, error) {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	l, err := s.labelled()
	if err != nil {
		return 0, nil // status says so
	}
	if s.count == nil || !l.Same(&s.last) {
		s.count, s.last = dataset.NewCounter(*l), *l
	}
	n, err := s.count.Count(ctx)
	if err == nil {
		text := ""
		if other, why := s.count.Other(); other > 0 {
			text = fmt.Sprintf("%d samples of stream %s do not fit the task: %s", other, s.task.Data.Stream, why)
		}
		s.other.Store(&text)
	}
	return n, err
}

// lacking says why there are no samples, empty where that is not known; it is for
// who looks at this gateway, and for no coordinator.
func (s *samples) lacking() string {
	var record []string
	for name, cfg := range s.g.Streams() {
		if cfg.Record != nil {
			record = append(record, name)
		}
	}
	if slices.Sort(record); !slices.Contains(record, s.task.Data.Stream) {
		return fmt.Sprintf("no stream %s records here; those that do: %s", s.task.Data.Stream, cmp.Or(strings.Join(record, ", "), "none"))
	}
	if _, err := s.labelled(); err != nil {
		return err.Error()
	}
	if text := s.other.Load(); text != nil {
		return *text
	}
	return ""
}

// Load is fl's, for who has no child process.
func (s *samples) Load(ctx context.Context, n int) (*train.Dataset, error) {
	l, err := s.labelled()
	if err != nil {
		return nil, err
	}
	return l.Load(ctx, n)
}

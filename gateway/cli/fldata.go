package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"edgegateway/fl"
	"edgegateway/infer/train"
)

// forTask reads data as a task takes them: with its classes, in its order, by their
// names. They may have any part of these; samples of other classes are left out, and
// say is told how many. notes has what became of the columns.
func (s dataSource) forTask(ctx context.Context, task *fl.Task, notes, say io.Writer) (*train.Dataset, error) {
	m := &task.Model
	named := len(m.Classes) > 0
	s.csv.Partial = named
	d, err := s.load(ctx, m.Input, notes)
	if err != nil {
		return nil, err
	}
	if m.Input.Size() != d.Shape.Size() {
		return nil, invalid(fmt.Errorf("%s: the task takes inputs of %v, the data has %v", s.path, []int(m.Input), []int(d.Shape)))
	}
	d.Shape = m.Input
	switch {
	case !named && m.Values == 0: // its file says how many, and no names: the data's are taken as they are
		return d, nil
	case !named && (d.Targets == nil || d.Width != m.Values):
		return nil, invalid(fmt.Errorf("%s: the task learns %d values, the data has %d; --target and --regression say which", s.path, m.Values, d.Width))
	case !named:
		return d, nil
	case d.Labels == nil:
		return nil, invalid(fmt.Errorf("%s: the task tells the classes %s, and the data has none", s.path, strings.Join(m.Classes, ", ")))
	}
	var keep []int
	for i, l := range d.Labels {
		if slices.Contains(m.Classes, d.Classes[l]) {
			keep = append(keep, i)
		}
	}
	if len(keep) == 0 {
		return nil, invalid(fmt.Errorf("%s: no sample is of one of the task's classes %s; its own are %s", s.path, strings.Join(m.Classes, ", "), strings.Join(d.Classes, ", ")))
	}
	if n := d.Len() - len(keep); n > 0 {
		fmt.Fprintf(say, "%s: %d of %s are of classes that the task does not know, and left out\n", s.path, n, count(d.Len(), "sample"))
		d = d.Subset(keep)
	}
	for i, l := range d.Labels {
		d.Labels[i] = int32(slices.Index(m.Classes, d.Classes[l]))
	}
	d.Classes = m.Classes
	return d, d.Check()
}

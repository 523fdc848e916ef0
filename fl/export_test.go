package fl

import "context"

// Machine is what a loop runs, for tests that make small ones.
type Machine = machine

// Run runs machines until ctx ends; ids are the tasks that they hear of, "" all.
func Run(ctx context.Context, t Transport, log Log, ids []string, machines ...Machine) error {
	s := newStation(t, log)
	for i, m := range machines {
		s.add(m, ids[i])
	}
	return s.run(ctx)
}

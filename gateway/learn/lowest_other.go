//go:build !linux

package learn

import "syscall"

// lowest is the priority of what has none.
const lowest = 19

// OnLowest starts a process, at the usual priority here: a child that trains
// lowers its own.
func OnLowest(start func() error) error { return start() }

// lowered lowers the child's own priority.
func lowered() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, lowest) }

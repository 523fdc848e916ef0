//go:build !linux

package learn

import "syscall"

// lowest is the priority of what has none.
const lowest = 19

// onLowest starts a process; it lowers its priority by itself.
func onLowest(start func() error) error { return start() }

// lowered lowers the child's own priority.
func lowered() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, lowest) }

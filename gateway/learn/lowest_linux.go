package learn

import (
	"runtime"
	"syscall"
)

// lowest is the priority of what has none.
const lowest = 19

// onLowest starts a process at the lowest priority, which it inherits with all
// its threads from the one that starts it: that thread cannot be used again.
func onLowest(start func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), lowest)
		done <- start()
	}()
	return <-done
}

// lowered lowers the child's own priority, which it has been born with.
func lowered() {}

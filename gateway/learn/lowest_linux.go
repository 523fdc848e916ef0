package learn

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// lowest is the priority of what has none.
const lowest = 19

// OnLowest starts a process at the lowest priority, which it inherits with all
// its threads from the one that starts it: that thread cannot be used again. It
// works only where nothing else wants to: beside a thread of the least nice value
// alone, one that wakes waits until the slice of that one is over.
func OnLowest(start func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), lowest)
		_ = unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0) // of this thread; a kernel that refuses leaves it nice
		done <- start()
	}()
	return <-done
}

// lowered lowers the child's own priority, which it has been born with.
func lowered() {}

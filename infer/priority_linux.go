package infer

import (
	"runtime"
	"syscall"
)

// lowest is the priority of what has none: nice 19.
const lowest = 19

// onLowest runs f on a thread of the lowest priority, which ends with it;
// threads that f starts keep that priority.
func onLowest(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread cannot be used again
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), lowest)
		f()
	}()
	<-done
}

// niceness is that of the calling thread; the kernel's answer has no sign.
func niceness() (int, error) {
	raw, err := syscall.Getpriority(syscall.PRIO_PROCESS, syscall.Gettid())
	return 20 - raw, err
}

// mayRaise says whether a thread may take its priority back after it gave it
// up: as root, with CAP_SYS_NICE, or with a limit that allows it (LimitNICE).
func mayRaise() (may bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		was, err := niceness()
		if err != nil || was >= lowest {
			return
		}
		may = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), was+1) == nil &&
			syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), was) == nil
	}()
	<-done
	return may
}

// yielding runs f with the calling thread at the lowest priority, and gives it
// back. f is in the runtime's code, and must not be in ours: a thread that waits
// for the processor with one of Go's under its hands keeps all of us waiting.
func yielding(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was, err := niceness()
	if err == nil && syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), lowest) == nil {
		defer func() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), was) }() // mayRaise said so
	}
	return f()
}

package infer

import (
	"syscall"
	"unsafe"
)

// idle lets a thread work only where nothing else wants to. Beside a thread of
// the least nice value alone, one that wakes waits for up to 3 ms until the slice
// of that one is over; an idle one it interrupts.
func idle(thread int) {
	const schedIdle = 5
	var priority int32
	_, _, _ = syscall.Syscall(syscall.SYS_SCHED_SETSCHEDULER, uintptr(thread), schedIdle, uintptr(unsafe.Pointer(&priority)))
}

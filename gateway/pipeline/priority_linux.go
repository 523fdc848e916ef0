package pipeline

import "syscall"

// lowestPriority gives the calling thread what is left of the processor by
// others. Threads that it starts have its priority. An error leaves it as it is.
func lowestPriority() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), 19) }

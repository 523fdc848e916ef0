package infer

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What Linux says of a process; elsewhere all of it is 0.

// memory is what a process has in memory, in bytes.
type memory struct {
	resident int64
	shared   int64 // of it: pages of files, such as the runtime's code
}

// memoryOf reads /proc/PID/statm; pid may be "self".
func memoryOf(pid string) (m memory) {
	b, err := os.ReadFile("/proc/" + pid + "/statm")
	if err != nil {
		return m
	}
	f := strings.Fields(string(b))
	if len(f) < 3 {
		return m
	}
	page := int64(os.Getpagesize())
	resident, _ := strconv.ParseInt(f[1], 10, 64)
	shared, _ := strconv.ParseInt(f[2], 10, 64)
	return memory{resident * page, shared * page}
}

// kilobytes reads the bytes of a line "KEY:  123 kB" of a file in /proc.
func kilobytes(path, key string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut("\n"+string(b), "\n"+key+":")
	if f := strings.Fields(rest); ok && len(f) > 0 {
		kb, _ := strconv.ParseInt(f[0], 10, 64)
		return kb << 10
	}
	return 0
}

// ownMemory is what this process has without pages of files. The kernel counts
// the rest of this file's figures per processor, some 100 KB off; for this one
// it looks at each page.
func ownMemory() int64 {
	if n := kilobytes("/proc/self/smaps_rollup", "Anonymous"); n > 0 {
		return n
	}
	m := memoryOf("self")
	return m.resident - m.shared
}

// peakResident is the most that this process had in memory since resetPeak.
func peakResident() int64 { return kilobytes("/proc/self/status", "VmHWM") }

// resetPeak begins anew; where the kernel does not know how, the peak is that
// since the process began.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// spareMemory is what the box has left without swapping, 2 GB where it does not
// say.
func spareMemory() int64 {
	if n := kilobytes("/proc/meminfo", "MemAvailable"); n > 0 {
		return n
	}
	return 2 << 30
}

// processorTime is what a process and its threads have computed.
func processorTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(string(f[11]), 10, 64)
	system, _ := strconv.ParseInt(string(f[12]), 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on every Linux
}

// nicest lets everything else on the box go before this process, on its
// processors and when memory runs out. On Linux a priority is a thread's own;
// threads to come inherit that of the one that makes them.
func nicest() {
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19)
	threads, _ := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, 19)
			idle(id)
		}
	}
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
}

// stopwatch measures calls on one thread, and how long of each the thread stood
// ready and was not let on a processor.
type stopwatch struct {
	schedstat *os.File // of the thread; nil: the kernel does not say
	buf       [96]byte
}

// newStopwatch binds the goroutine to its thread until close.
func newStopwatch() *stopwatch {
	runtime.LockOSThread()
	f, _ := os.Open("/proc/thread-self/schedstat")
	return &stopwatch{schedstat: f}
}

func (s *stopwatch) close() {
	if s.schedstat != nil {
		s.schedstat.Close()
	}
	runtime.UnlockOSThread()
}

// waited is how long the thread stood ready so far. It allocates nothing.
func (s *stopwatch) waited() (ns int64) {
	if s.schedstat == nil {
		return 0
	}
	n, _ := s.schedstat.ReadAt(s.buf[:], 0)
	field := 0 // "COMPUTED WAITED TIMES"
	for _, c := range s.buf[:n] {
		switch {
		case c < '0' || c > '9':
			field++
		case field == 1:
			ns = ns*10 + int64(c-'0')
		}
	}
	return ns
}

// time runs f: wall is what a clock on the wall says, own without the waiting.
func (s *stopwatch) time(f func() error) (own, wall time.Duration, err error) {
	waited, begin := s.waited(), time.Now()
	err = f()
	wall = time.Since(begin)
	return max(wall-time.Duration(s.waited()-waited), 0), wall, err
}

package tflite

import (
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// reports are the texts that the runtime's error reporter said, by
// interpreter. C holds a number, never a Go pointer.
type reports struct {
	mu   sync.Mutex
	next uintptr
	byID map[uintptr]*report
}

type report struct {
	id    uintptr
	mu    sync.Mutex
	lines []string
}

// maxLines bounds what one interpreter can say before somebody listens.
const maxLines = 16

func (l *Library) newReport() *report {
	l.reports.mu.Lock()
	defer l.reports.mu.Unlock()
	l.reports.next++
	r := &report{id: l.reports.next}
	l.reports.byID[r.id] = r
	return r
}

func (l *Library) endReport(r *report) {
	l.reports.mu.Lock()
	defer l.reports.mu.Unlock()
	delete(l.reports.byID, r.id)
}

// Interpreters is how many interpreters of the library are alive.
func (l *Library) Interpreters() int {
	l.reports.mu.Lock()
	defer l.reports.mu.Unlock()
	return len(l.reports.byID)
}

// take gives what was said since the last time.
func (r *report) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := strings.Join(r.lines, "; ")
	r.lines = nil
	if text == "" {
		return "no reason given"
	}
	return text
}

// newReporter makes the C function that the runtime calls with a printf
// format and its arguments. A callback is never freed: there is one for the
// library, not one for an interpreter.
func (l *Library) newReporter() uintptr {
	return purego.NewCallback(func(id, format, args uintptr) uintptr {
		var buf [1024]byte
		var pin runtime.Pinner
		pin.Pin(&buf[0])
		n := callInt(l.sym.vsnprintf, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), format, args)
		pin.Unpin()
		l.reports.mu.Lock()
		r := l.reports.byID[id]
		l.reports.mu.Unlock()
		if r == nil || n <= 0 {
			return 0
		}
		text := strings.TrimSpace(string(buf[:min(n, len(buf)-1)]))
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.lines) < maxLines {
			r.lines = append(r.lines, text)
		}
		return 0
	})
}

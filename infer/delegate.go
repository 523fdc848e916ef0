package infer

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"edgegateway/infer/model"
)

// delegate is a parsed name of what computes a model: builtin,
// builtin:THREADS, xnnpack:FLAGS, xnnpack:FLAGS:THREADS or external.
type delegate struct {
	kind    string
	flags   uint32
	threads int
}

func parseDelegate(s string) (d delegate, err error) {
	parts := strings.Split(s, ":")
	d = delegate{kind: parts[0], threads: 1}
	rest := parts[1:]
	number := func(what string, low, high int) int {
		n, nerr := strconv.Atoi(rest[0])
		if nerr != nil || n < low || n > high {
			err = fmt.Errorf("%q: the %s are %d to %d", s, what, low, high)
		}
		rest = rest[1:]
		return n
	}
	if d.kind == "xnnpack" && len(rest) > 0 {
		d.flags = uint32(number("flags", 0, 3))
	} else if d.kind != "builtin" && s != "external" {
		return d, fmt.Errorf("%q is none of auto, builtin, builtin:THREADS, xnnpack:FLAGS, xnnpack:FLAGS:THREADS, external", s)
	}
	if err == nil && len(rest) > 0 && d.kind != "external" {
		d.threads = number("threads", 1, 64)
	}
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%q has too many parts", s)
	}
	return d, err
}

// takes refuses a model that would harm the process on this delegate.
func (d delegate) takes(m *model.Model) error {
	if why := m.BuiltinOnly(); d.kind == "xnnpack" && why != "" {
		return errors.New(why)
	}
	return nil
}

// workers is how many interpreters a model gets: as many as are configured,
// else as many as there are cores for their threads. An accelerator has one.
func (d delegate) workers(configured int) int {
	switch {
	case d.kind == "external":
		return 1
	case configured > 0:
		return configured
	}
	return max(1, runtime.GOMAXPROCS(0)/d.threads)
}

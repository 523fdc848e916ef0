package tflite

import (
	"errors"
	"fmt"
	"strings"
)

// ErrMachine is wrapped by the error of a library that this machine cannot
// load from wherever it lies.
var ErrMachine = errors.New("this machine cannot load it")

const (
	oldStdlib = "libstdc++.so.6 is too old, that of GCC 9 or later is needed: upgrade the package libstdc++6"
	noGlibc   = "this system has no glibc; 2.29 or later is needed (Debian 11, Ubuntu 20.04 or newer)"
)

// lacks are the loader's texts and what they mean. The first whose two parts
// stand in the text counts: one that is too old is named like a missing one.
var lacks = []struct{ part, and, what string }{
	{"version `GLIBC_", "", "the C library is older than glibc 2.29 (Debian 11, Ubuntu 20.04 or newer have it)"},
	{"version `GLIBCXX_", "", oldStdlib},
	{"version `CXXABI_", "", oldStdlib},
	{"undefined symbol: _Z", "", oldStdlib},
	{"libstdc++", "No such file", "libstdc++.so.6 is missing: install the package libstdc++6"},
	{"libgcc_s", "No such file", "libgcc_s.so.1 is missing: install the package libgcc-s1"},
	{"ld-linux", "No such file", noGlibc},
	{"Error relocating", "", noGlibc}, // musl's words
	{"wrong ELF class", "", "the library is for another processor"},
}

// explain says what the machine lacks, where the loader's text tells it.
func explain(err error) error {
	text := err.Error()
	for _, l := range lacks {
		if strings.Contains(text, l.part) && strings.Contains(text, l.and) {
			return fmt.Errorf("%w: %s (%w)", ErrMachine, l.what, err)
		}
	}
	return err
}

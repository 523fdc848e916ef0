//go:build !linux

package infer

// onLowest runs f: the priority is the process's here.
func onLowest(f func()) { f() }

func mayRaise() bool { return false }

func yielding(f func() error) error { return f() }

//go:build !linux

package infer

// idle is of Linux.
func idle(int) {}

//go:build !linux

package pipeline

// lowestPriority does nothing here: the priority is the process's.
func lowestPriority() {}

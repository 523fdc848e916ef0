// Package infer puts models to work: an Engine that loads them by name, tries
// the delegates of this box in a child process and takes the fastest that
// answers right, keeps warm interpreters, and turns output tensors into
// labels, boxes and numbers.
package infer

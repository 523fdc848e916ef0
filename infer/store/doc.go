// Package store keeps the versions of models on disk: bundles are read without
// trust, signatures checked, files kept by their content, and one small file
// says what is live and what somebody wants. It runs nothing: who does what is
// wanted reads the state, does it, and says here what became of it.
//
// Several processes may use one store. Killed at any step, it holds the old
// state or the new one, and every file of the versions in it is whole.
package store

// Package simulate runs a federated task with thousands of virtual
// participants in one process: the coordinator and the participants of package
// fl, unchanged, over a broker that is a map and a clock that jumps to what
// comes next. Only the training is real work.
package simulate

// Package aggregate makes the next model of the updates of a cohort, and the
// updates small for their way. Everything in it is arithmetic on lists of
// numbers; it knows neither networks nor messages.
//
// The same updates give the same bits in whatever order they come, on every
// machine: sums are of integers, and no product and sum are left to a compiler
// to make one rounding of.
package aggregate

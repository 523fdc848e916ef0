// Package aggregate makes the next model of the updates of a cohort, and the
// updates small for their way. Everything in it is arithmetic on lists of
// numbers; it knows neither networks nor messages.
package aggregate

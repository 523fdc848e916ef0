// Package spool is a bounded, ordered queue on disk: an append-only log of
// segments with a checksum per record. What Append returned for is there
// again after a power cut.
//
// Every record has a sequence number, from 1 and without gaps while nothing is
// damaged. A Reader walks the records in order; Ack says up to which one they
// are done with, and whole segments leave from the front as they are
// acknowledged. The acknowledged position may lag after a crash, so what was
// acknowledged last may be read again; what was not is never skipped.
//
// At its bound in bytes, or in age, the oldest whole segment goes, and each
// unacknowledged record in it is told to Options.OnDrop. Damage found while
// reading is skipped and told to Options.OnDamage with how many records it
// cost; a tail that a crash left torn is cut off at Open.
package spool

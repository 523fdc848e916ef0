// Package dataset keeps labelled samples that streams recorded on this box, or
// that were brought from elsewhere: bounded, the oldest leave first. A set is a
// folder of logs, each a line a sample with its checksum, and of the pictures
// that the lines name. What a crash tore is not in it.
package dataset

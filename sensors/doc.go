// Package sensors makes samples of what arrives: it decodes numbers and
// pictures, gathers numbers into windows, and turns windows and pictures into
// what a model takes. It is pure: no goroutine, no clock, no network.
package sensors

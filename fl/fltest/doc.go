// Package fltest is what tests of federated learning share: a broker in memory
// that retains messages, and loses, doubles, delays and reorders them as a seed
// says; keys, and samples.
package fltest

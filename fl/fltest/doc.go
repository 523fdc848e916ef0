// Package fltest is a broker in memory for tests of federated learning: it
// retains messages, and loses, doubles, delays and reorders them as a seed says.
package fltest

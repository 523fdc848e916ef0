// Package testkit helps tests to use real parts: free ports, foreign brokers
// and clients, the shared models and data, a proxy that cuts connections, and
// our own program, built once and killed at will. It imports nothing of ours.
package testkit

// Package dashboard is what a person or a monitor looks at by HTTP: metrics,
// health, and the state of the gateway as JSON. It reads; it changes nothing.
package dashboard

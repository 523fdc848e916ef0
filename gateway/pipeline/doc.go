// Package pipeline is one stream: intake, window, model, result. It queues
// per source in order, bounded, and counts every drop with its reason.
package pipeline

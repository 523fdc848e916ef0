// Package app is the composition root: the whole configuration, the list of
// stages, start, stop and reload. It has no rule of its own.
package app

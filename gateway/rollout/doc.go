// Package rollout brings versions of models to work: it looks at what the
// store says is wanted, tries the version on this box, exchanges it under the
// streams, watches it, and takes it back where it does worse than the one
// before. Each step is a status message and a line of the audit log.
package rollout

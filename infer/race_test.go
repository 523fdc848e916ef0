//go:build race

package infer

// raceDetector: it lets pools lose what they keep, so that allocations say
// nothing.
const raceDetector = true

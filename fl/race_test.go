//go:build race

package fl

// raced says that the race detector is in: counts are smaller then.
const raced = true

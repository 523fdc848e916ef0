//go:build !race

package fl

const raced = false

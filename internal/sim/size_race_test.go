//go:build race

package sim_test

// The race detector takes most of the speed: `task sim:ci` runs all of them
// without it.
const (
	seedsInCI    = 300
	seedsWithout = 30
)

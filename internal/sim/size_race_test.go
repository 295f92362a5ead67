//go:build race

package sim_test

// seedsInCI is less under the race detector, which takes most of the speed.
// `task sim:ci` runs all of them without it.
const seedsInCI = 200

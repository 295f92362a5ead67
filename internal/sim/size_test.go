//go:build !race

package sim_test

// seedsInCI is how many schedules go test runs.
const seedsInCI = 10_000

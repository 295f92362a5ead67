//go:build race

package sim_test

// seedsInCI is how many schedules go test -race runs: as many as a twentieth
// of the speed allows.
const seedsInCI = 300

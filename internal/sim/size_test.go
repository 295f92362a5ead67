//go:build !race

package sim_test

const (
	seedsInCI    = 10_000 // schedules that go test runs
	seedsWithout = 300    // … without each thing on which nothing rests
)

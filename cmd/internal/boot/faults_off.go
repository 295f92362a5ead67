//go:build !faults

package boot

// arm is for the programs of the fault tests.
func arm(Std) error { return nil }

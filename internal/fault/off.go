//go:build !faults

package fault

// At marks a line.
func At(string) {}

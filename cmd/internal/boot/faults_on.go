//go:build faults

package boot

import "github.com/seed-245eaa15/obs/internal/fault"

// arm reads what is to go wrong in this process; see package fault.
func arm(std Std) error {
	plan, _ := std.LookupEnv("OBS_FAULTS")
	return fault.Arm(plan)
}

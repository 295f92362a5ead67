//go:build !race

package sim_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Each bug that the simulator builds in is found within a few thousand schedules,
// and mostly within 155: which ones find it depends on the machine as well.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, bug := range []plant{
		plantAckBeforeSettle, plantNoFence, plantNoReconciliation, plantRemoveFirst, plantSameID, plantAskedIgnored,
		plantStatusIgnored, plantReleasedCounts, plantEffectsOutside, plantToldFirst,
	} {
		t.Run(string(bug), func(t *testing.T) {
			r := sweep(t, task{Bug: bug, From: *flagFrom, Seeds: 5000})
			require.NotNil(t, r.Failed, "%d schedules found nothing", r.Ran)
			require.NotContains(t, r.Failed.Found, ended, r.Failed.Text)
			t.Logf("found at schedule %d: %s", r.Failed.Seed, r.Failed.Found[0])
		})
	}
}

// Nothing rests on these, as docs/architecture.md says: not on who leads, not
// on the stream dropping what it knows, not on an acknowledgement.
func TestNothingRestsOn(t *testing.T) {
	for _, bug := range []plant{plantAckEarly, plantNoAckEver, plantNoDedupe, plantAllLead, plantAllThrice} {
		t.Run(string(bug), func(t *testing.T) {
			r := sweep(t, task{Bug: bug, From: *flagFrom, Seeds: 300})
			if r.Failed != nil {
				t.Fatalf("%s\nwith as few faults as it takes:\n%s", r.Failed.Text, r.Small.Text)
			}
			t.Logf("%d schedules", r.Ran)
		})
	}
}

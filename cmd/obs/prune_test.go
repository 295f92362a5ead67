package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPrune(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ids := o.record(3)
	for _, id := range ids[:2] {
		o.obs("jobs", "cancel", string(id))
	}

	require.Equal(t, "0 jobs would go\n", o.obs("prune", "--older-than", "1d", "--dry-run"))
	require.Equal(t, "0 jobs would go\n", o.obs("prune", "--older-than", "0s", "--dry-run", "--keep", "cancelled"))
	require.Equal(t, o.project+"  2 jobs\n2 jobs would go\n", o.obs("prune", "--older-than", "0s", "--dry-run"))
	require.Contains(t, o.obs("jobs", "list"), "3 of 3 jobs")

	var body struct {
		DryRun   bool
		Projects []struct{ TeamID, ProjectID string }
		Total    struct{ Jobs, Events, AgentEvents int }
	}
	require.NoError(t, json.Unmarshal([]byte(o.obs("prune", "--older-than", "0s", "--project", o.project, "--payloads", "--rate", "0", "--json")), &body))
	require.False(t, body.DryRun)
	require.Equal(t, o.project, body.Projects[0].ProjectID)
	require.Equal(t, [3]int{2, 4, 2}, [3]int{body.Total.Jobs, body.Total.Events, body.Total.AgentEvents})
	require.Contains(t, o.obs("jobs", "list"), "1 of 1 jobs")
	require.Equal(t, "0 jobs and 0 events of their histories are gone, 0 agent events remember it\n", o.obs("prune", "--older-than", "0s"))
	require.Contains(t, o.obs("audit", "--action", "project.pruned"), "project.pruned")
	require.Contains(t, o.obs("check"), "1 jobs checked, 0 findings")
	require.Contains(t, o.fails(1, "jobs", "retry", string(ids[0])), "there is no job")

	require.Contains(t, o.fails(2, "prune"), "--older-than")
	require.Contains(t, o.fails(2, "prune", "--older-than", "soon"), "90d")
	require.Contains(t, o.fails(2, "prune", "--older-than=-1h"), "90d")
	require.Contains(t, o.fails(2, "prune", "--older-than", "1w", "--keep", "queued"), "--keep")
	require.Contains(t, o.fails(2, "prune", "--older-than", "1w", "--keep", "failed,completed,cancelled"), "nothing is left")
	require.Contains(t, o.fails(2, "prune", "--older-than", "1w", "--rate", "-1"), "--rate")
	require.Contains(t, o.fails(1, "prune", "--older-than", "1w", "--project", "nobody"), "no project")
}

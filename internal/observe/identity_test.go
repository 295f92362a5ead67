package observe_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// What servers and clients out there have computed. These never change.
func TestIdentitiesAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	const at = 1700000000000 // 2023-11-14T22:13:20.000Z
	payload, err := observe.Canonical([]byte(`{"b":[3,{"z":1,"a":"é"}],"a":null}`))
	require.NoError(t, err)
	key := observe.AgentEventKey("t1", observe.NewEvent{
		ProjectID: "p1", SourceType: "api", ContentSessionID: new("cs1"), EventType: "tool_use", OccurredAtEpoch: at,
	}, new("claude"), payload)
	require.Equal(t, "agent_event:v1:d961fd24622ed72117f5c2316cd1dce5c837269cff1d66fa13d174b565d59940", key)

	key = observe.AgentEventKey("t1", observe.NewEvent{
		ProjectID: "p1", SourceType: "api", EventType: "tool_use", OccurredAtEpoch: at,
	}, nil, []byte("{}"))
	require.Equal(t, "agent_event:v1:7b4d47bbdb3f694de475710bfd2b4f9bfc78b5fccb8352638d4300ce58e29496", key)

	key = observe.AgentEventKey("t1", observe.NewEvent{
		ProjectID: "p1", SourceType: "claude-code-compat", SourceEventID: new("toolu_1"),
	}, new("claude"), nil)
	require.Equal(t, "agent_event:v1:bd23478d5c6d01cb4e21d8cd4b3ba5ed0086becd41fe7bd09386de5f25e7625b", key)

	scope := events.Scope{Team: "t1", Project: "p1"}
	require.Equal(t, "observation_generation_job:v1:64f1a1d7b103216bdf3a75e4f02421dee2075dd926edc06e0f3a1e5e33596192",
		observe.JobKey(scope, observe.SourceEvent, "e1", observe.JobType(observe.KindEvent)))
	require.Equal(t, "observation_generation_job:v1:6e3c9bd0223dc01271ef60b11590861ca0860f1d417f10fa212e604b8cc2c9d3",
		observe.JobKey(scope, observe.SourceSummary, "s1", observe.JobType(observe.KindSummary)))

	require.Equal(t, "evt_6a80d832abf56b37dd73b107c7c5c80f0a792a5749421d7375e57795c6b2dede",
		observe.TransportID(events.Job{Kind: observe.KindEvent, Scope: scope, SourceType: observe.SourceEvent, SourceID: "e1"}))
	require.Equal(t, "sum_c483cd1c100ec1ab670341ab9979c799afcadd30d0d13c11c5a2a683e0a254b0",
		observe.TransportID(events.Job{Kind: observe.KindSummary, Scope: scope, SourceType: observe.SourceSummary, SourceID: "s1"}))

	require.Equal(t, "generation:v1:j1:0:78b314b6f3e3e32da42068f671020a8de9ee310be7fd970f9e5727f80b6ca1fa",
		observe.GenerationKey("j1", 0, " Title\n\nBody\n"))
}

func TestTransportIDsSayTheirKindAndHoldNoColon(t *testing.T) {
	t.Parallel()
	prefixes := map[events.Kind]string{
		observe.KindEvent: "evt_", observe.KindBatch: "evtb_", observe.KindSummary: "sum_", observe.KindReindex: "rdx_",
	}
	seen := map[string]bool{}
	for _, kind := range observe.Kinds() {
		id := observe.TransportID(events.Job{Kind: kind, Scope: events.Scope{Team: "t:1", Project: `p"1`}, SourceType: "a:b", SourceID: "c:d"})
		require.True(t, strings.HasPrefix(id, prefixes[kind]), id)
		require.NotContains(t, id, ":")
		require.False(t, seen[id])
		seen[id] = true
	}
}

func TestSessionKeys(t *testing.T) {
	t.Parallel()
	platform := new("claude")
	key := func(n observe.NewSession, p *string) string {
		n.ProjectID = "p1"
		k := observe.SessionKey("t1", n, p)
		require.NotNil(t, k)
		require.True(t, strings.HasPrefix(*k, "server_session:v1:"))
		return *k
	}
	external := observe.NewSession{ExternalSessionID: new("x")}
	content := observe.NewSession{ContentSessionID: new("x")}
	agent := observe.NewSession{AgentID: new("x")}
	all := []string{
		key(external, nil), key(external, platform), key(content, nil), key(content, platform), key(agent, platform),
		key(observe.NewSession{ContentSessionID: new("x"), AgentID: new("a")}, nil),
		key(observe.NewSession{AgentID: new("x"), AgentType: new("t")}, platform),
	}
	for i := range all {
		for k := range i {
			require.NotEqual(t, all[k], all[i], "%d and %d", k, i)
		}
	}
	require.Equal(t, key(external, nil), key(observe.NewSession{ExternalSessionID: new("x"), ContentSessionID: new("y")}, nil),
		"the external id is enough")
	require.Nil(t, observe.SessionKey("t1", observe.NewSession{ProjectID: "p1"}, platform))
	require.Nil(t, observe.SessionKey("t1", observe.NewSession{ProjectID: "p1", AgentID: new("x")}, nil), "an agent without a platform")
}

// Parts that hold quotes, commas, brackets or separators stay what they are.
func TestPartsCannotPassForOtherParts(t *testing.T) {
	t.Parallel()
	part := rapid.StringOfN(rapid.RuneFrom([]rune(`",[]\:null{}a1`)), 1, 6, -1)
	rapid.Check(t, func(t *rapid.T) {
		type parts struct{ team, project, source, kind string }
		draw := func(name string) parts {
			return parts{
				part.Draw(t, name+" team"), part.Draw(t, name+" project"),
				part.Draw(t, name+" source"), part.Draw(t, name+" kind"),
			}
		}
		keys := func(p parts) []string {
			event := observe.AgentEventKey(p.team, observe.NewEvent{ProjectID: p.project, SourceType: p.source, SourceEventID: &p.kind}, nil, nil)
			scope := events.Scope{Team: p.team, Project: p.project}
			return []string{
				event,
				observe.JobKey(scope, p.source, p.kind, "x"),
				observe.TransportID(events.Job{Kind: observe.KindEvent, Scope: scope, SourceType: p.source, SourceID: p.kind}),
			}
		}
		a, b := draw("a"), draw("b")
		ka, kb := keys(a), keys(b)
		for i := range ka {
			require.Equal(t, a == b, ka[i] == kb[i], "%v and %v", a, b)
		}
	})
}

func TestNormalizePlatform(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "claude", "  ": "claude", "Claude Code": "claude", "claude-code": "claude", "transcript": "codex",
		"OpenAI Codex": "codex", "Cursor IDE": "cursor", " My  Own\tTool ": "my-own-tool", "transcripts": "transcripts",
	} {
		require.Equal(t, want, observe.NormalizePlatform(in), "%q", in)
	}
}

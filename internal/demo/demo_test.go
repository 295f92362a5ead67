package demo_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/demo"
)

func TestSessionIsWhole(t *testing.T) {
	t.Parallel()
	s, err := demo.Session()
	require.NoError(t, err)
	require.NotEmpty(t, s.ID)
	require.GreaterOrEqual(t, len(s.Events), 120)
	require.Equal(t, "SessionStart", s.Events[0].Hook)
	require.Equal(t, "SessionEnd", s.Events[len(s.Events)-1].Hook)

	types := map[string]string{
		"SessionStart": "session_start", "UserPromptSubmit": "user_prompt", "PostToolUse": "tool_use",
		"PostToolUseFailure": "tool_use", "Stop": "assistant_message", "SessionEnd": "session_end",
	}
	tools := map[string]int{}
	last := int64(0)
	for i, e := range s.Events {
		require.Equal(t, types[e.Hook], e.EventType, "event %d", i)
		require.Greater(t, e.OccurredAtEpoch, last, "event %d", i)
		last = e.OccurredAtEpoch
		var p struct {
			Tool     string          `json:"tool_name"`
			Input    json.RawMessage `json:"tool_input"`
			Response json.RawMessage `json:"tool_response"`
			Error    string          `json:"error"`
			Cwd      string          `json:"cwd"`
		}
		require.NoError(t, json.Unmarshal(e.Payload, &p), "event %d", i)
		require.NotEmpty(t, p.Cwd, "event %d", i)
		if e.EventType == "tool_use" {
			require.NotEmpty(t, p.Input, "event %d", i)
			require.NotEqual(t, p.Error == "", len(p.Response) == 0, "event %d has a response or an error", i)
			tools[p.Tool]++
		}
	}
	for _, tool := range []string{"Read", "Write", "Edit", "MultiEdit", "Bash", "Grep", "Glob", "TodoWrite", "Task", "WebFetch", "WebSearch"} {
		require.NotZero(t, tools[tool], tool)
	}
}

// TestSessionShowsPrivacyAndHoldsNoSecret: one private section, which the
// pipeline must strip, and nothing that would have to be stripped elsewhere.
func TestSessionShowsPrivacyAndHoldsNoSecret(t *testing.T) {
	t.Parallel()
	s, err := demo.Session()
	require.NoError(t, err)
	require.Regexp(t, `(?s)<private>.+</private>`, s.Prompt)
	var all []byte
	for _, e := range s.Events {
		all = append(all, e.Payload...)
	}
	require.Equal(t, 1, bytes.Count(all, []byte("<private>")))
	require.Equal(t, 1, bytes.Count(all, []byte("Halden")), "what is private is said in one place only")
	require.NotRegexp(t, `AKIA|ghp_|\bsk-[a-z]|PRIVATE KEY|xox[bp]-|://\w+:\w+@`, string(all))
}

func TestSessionBelongsToTheCaller(t *testing.T) {
	t.Parallel()
	a, err := demo.Session()
	require.NoError(t, err)
	a.Events[1].Payload[0] = 'x'
	b, err := demo.Session()
	require.NoError(t, err)
	require.True(t, json.Valid(b.Events[1].Payload))
}

package llm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
)

// FuzzOffline gives the extractor any bytes under any type: it must not panic,
// its notes must keep their bounds, and asking twice must not differ.
func FuzzOffline(f *testing.F) {
	for _, e := range session(f) {
		f.Add(e.Type, []byte(e.Payload))
	}
	for _, p := range []string{`null`, `7`, `"text"`, `[]`, `[[{"text":["a"]}]]`, `{"tool_name":"Edit","tool_input":[],"tool_response":{"structuredPatch":[{"lines":["","+",7]}]}}`, `{"tool_name":"Bash","tool_input":{"command":"'"},"tool_response":{"exit_code":"1"}}`, "\x00\xff", `{"prompt":"\u0000\ud800 We will use it instead, because."}`, `{"tool_name":"Read","tool_input":{"file_path":"/"},"tool_response":"1→x\n→"}`} {
		f.Add("tool_use", []byte(p))
	}
	f.Fuzz(func(t *testing.T, typ string, payload []byte) {
		e := llm.Event{ID: "e", Type: typ, Payload: payload}
		q := llm.Question{Task: llm.TaskObserve, Events: []llm.Event{e, e}}
		a := ask(t, q)
		require.Equal(t, len(a.Observations) == 0, a.Skipped)
		for _, o := range a.Observations {
			requireBounds(t, o)
		}
		require.Equal(t, a, ask(t, q))
		ask(t, llm.Question{Task: llm.TaskSummarize, Events: q.Events, LastMessage: string(payload)})
	})
}

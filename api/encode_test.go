package api_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// What is written by hand is what encoding/json writes, byte for byte.
func TestAnswersAreWrittenAsJSON(t *testing.T) {
	t.Parallel()
	document := rapid.Custom(func(t *rapid.T) json.RawMessage {
		b, err := json.MarshalIndent(map[string]any{
			rapid.String().Draw(t, "name"): rapid.SliceOf(rapid.String()).Draw(t, "texts"), "n": rapid.Int64().Draw(t, "n"), "empty": map[string]any{},
		}, "", rapid.SampledFrom([]string{"", " ", "\t"}).Draw(t, "indent"))
		require.NoError(t, err)
		return bytes.ReplaceAll(b, []byte("<"), []byte(`\u003c`))
	})
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z0-9_-]{0,40}`), rapid.Just("a\xffb<&>\u2028\x00\x7f\"\\"))
	maybe := rapid.Ptr(text, true)
	moment := rapid.Custom(func(t *rapid.T) time.Time { return time.UnixMilli(rapid.Int64Range(0, 1<<52).Draw(t, "ms")) })
	recorded := rapid.Custom(func(t *rapid.T) observe.Recorded {
		r := observe.Recorded{Event: observe.AgentEvent{
			ID: text.Draw(t, "id"), ProjectID: text.Draw(t, "project"), TeamID: text.Draw(t, "team"), ServerSessionID: maybe.Draw(t, "session"),
			SourceAdapter: text.Draw(t, "adapter"), SourceEventID: maybe.Draw(t, "source id"), EventType: text.Draw(t, "type"),
			PlatformSource: maybe.Draw(t, "platform"), Payload: document.Draw(t, "payload"), Metadata: document.Draw(t, "metadata"),
			OccurredAt: moment.Draw(t, "occurred"), ReceivedAt: moment.Draw(t, "received"), CreatedAt: moment.Draw(t, "created"),
		}}
		if rapid.Bool().Draw(t, "job") {
			r.Job = &events.Job{
				ID: events.ID(text.Draw(t, "job id")), Kind: "event", SourceType: text.Draw(t, "source type"), SourceID: text.Draw(t, "source"),
				Status: rapid.SampledFrom(events.Statuses()).Draw(t, "status"), CreatedAt: moment.Draw(t, "asked"), UpdatedAt: moment.Draw(t, "moved"),
			}
		}
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(recorded, 0, 4).Draw(t, "events")
		ours, theirs, err := api.Written(all, rapid.Bool().Draw(t, "waited"), rapid.Bool().Draw(t, "timed out"))
		require.NoError(t, err)
		require.Equal(t, theirs, ours)
	})
}

// What a body is taken apart into is what encoding/json finds in it.
func FuzzTakenApart(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { } `, `[]`, "[ ]\n", `{"a":1,"b" : [1,{"x":"]}"}] ,"a":"2"}`, `[1, "a,]" ,{"b":[]},null,-1.5e3 ]`, `{"\u0061\"":"\\"}`,
		`{"a":"\\\"","b":{"c":"}"}}`, `1`, `"x"`, `{"a":true}`, `[[],[[]]]`, `{`, `[1,]`, `{"a" 1}`, "{\"é\":\"\\ud83d\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		of, list, err := api.TakenApart(text)
		if err != nil {
			return
		}
		var wantOf map[string]json.RawMessage
		var wantList []json.RawMessage
		switch bytes.TrimLeft(text, " \t\r\n")[0] {
		case '{':
			require.NoError(t, json.Unmarshal(text, &wantOf))
			require.Equal(t, wantOf, of)
		case '[':
			require.NoError(t, json.Unmarshal(text, &wantList))
			require.Len(t, list, len(wantList))
			for i := range list {
				require.Equal(t, string(wantList[i]), string(list[i]))
			}
		}
	})
}

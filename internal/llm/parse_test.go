package llm_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/llm"
)

func TestReadAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, title string }{
		{"schema", `{"skip":false,"observations":[{"type":"bugfix","title":"T"}]}`, "T"},
		{"fenced", "```json\n{\"observations\":[{\"title\":\"T\"}]}\n```", "T"},
		{"prose around", "Here you are: {\"observations\":[{\"title\":\"T\"}]} I hope it helps.", "T"},
		{"wrong case", `{"Observations":[{"Title":"T","FACTS":"one"}]}`, "T"},
		{"bare list", `[{"title":"T"}]`, "T"},
		{"bare note", `{"title":"T","facts":[1,null,"f"]}`, "T"},
		{"blocks", `<observation><type>bugfix</type><title>T</title></observation>`, "T"},
		{"blocks in a fence, in capitals", "```xml\n<Observation kind=\"x\"><TITLE> T </TITLE></Observation>\n```", "T"},
		{"entities", `<observation><title>a &lt;b&gt; &amp; c</title></observation>`, "a <b> & c"},
		{"unescaped quote", `<observation><title>if a < b && c</title></observation>`, "if a < b && c"},
		{"no title", `<observation><narrative>The lease ran out.</narrative></observation>`, "The lease ran out."},
		{"a note that quotes the skip tag", `<observation><title>It writes &lt;skip_summary/&gt;</title></observation><skip_summary/>`, "It writes <skip_summary/>"},
		{"a summary for a note", `<summary><completed>T</completed></summary>`, "T"},
		{"the last one breaks off", `<observation><title>T</title></observation><observation><title>U`, "T"},
		{"braces before the blocks", `{x} <observation><title>T</title></observation>`, "T"},
		{"skip", `<skip_summary/>`, ""},
		{"skip with a reason", `<SKIP_SUMMARY reason="routine"/>`, ""},
		{"skip in JSON", `{"skip":true,"observations":[]}`, ""},
		{"none in JSON", `{"observations":[]}`, ""},
		{"skip as a word", `{"skip":"true"}`, ""},
		{"braces before the JSON", "I used {a map} and [1], see:\n{\"observations\":[{\"title\":\"T\"}]}", "T"},
		{"thought aloud", "<think>Maybe {\"skip\":true}? Or <skip_summary/>?</think>\n{\"observations\":[{\"title\":\"T\"}]}", "T"},
		{"entities in JSON", `{"observations":[{"title":"a &lt;b&gt; &amp;&amp; c"}]}`, "a <b> && c"},
		{"entities in place of tags", `&lt;observation&gt;&lt;title&gt;T&lt;/title&gt;&lt;/observation&gt;`, "T"},
		{"JSON in a string", `"{\"observations\":[{\"title\":\"T\"}]}"`, "T"},
		{"in a wrapper", `{"arguments":"{\"observations\":[{\"title\":\"T\"}]}"}`, "T"},
		{"in two wrappers", `{"tool":{"input":{"observations":[{"title":"T"}]}}}`, "T"},
		{"one where a list should be", `{"observation":{"title":"T"}}`, "T"},
		{"names in another style", `{"Observations":[{"Title":"T","filesRead":["a.go"],"files-modified":["b.go"]}]}`, "T"},
		{"commas too many", `{"observations":[{"title":"T","facts":["a",],},],}`, "T"},
		{"words of another language", `{"skip": False, "observations":[{"title":"T","subtitle":None}]}`, "T"},
		{"a line break in a string", "{\"observations\":[{\"title\":\"T\",\"narrative\":\"one\ntwo\"}]}", "T"},
		{"single quotes", `{'skip': False, 'observations': [{'title': 'T', 'facts': ['it\'s "so"', "or so"], 'concepts': []}]}`, "T"},
		{"an empty list before", `I used [] and {x}: {"observations":[{"title":"T"}]}`, "T"},
		{"a note a line", "{\"title\":\"T\"}\n{\"title\":\"U\"}", "T"},
		{"CDATA", `<observation><title><![CDATA[T]]></title><facts><fact><![CDATA[a < b &amp; c]]></fact></facts></observation>`, "T"},
		{"the end is missing", `{"observations":[{"title":"T"}`, "T"},
		{"the last one in JSON breaks off", `{"observations":[{"title":"T","facts":["a"]},{"title":"U`, "T"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, err := llm.Read(llm.TaskObserve, tt.text)
			require.NoError(t, err)
			require.Equal(t, tt.title == "", a.Skipped)
			if tt.title != "" {
				require.Equal(t, tt.title, a.Observations[0].Title)
				requireBounds(t, a.Observations[0])
			}
		})
	}
	for name, text := range map[string]string{
		"empty": " \n", "prose": "I cannot do that.", "half JSON": `{"observations":[{"title":"T"`, "other JSON": `{"answer":42}`,
		"other list": `[1,2]`, "open block": `<observation><title>T</title>`, "says nothing": `<observation><type>bugfix</type></observation>`,
		"an empty list in what is broken": `{observations: [{title: T, concepts: []}], skip: false}`,
		"says nothing in JSON":            `{"observations":[{"type":"bugfix"}]}`,
		"words":                           `["a","b"]`, "nothing but brackets": strings.Repeat("[", 5000), "only a thought": "<think>{\"skip\":true}</think>",
	} {
		_, err := llm.Read(llm.TaskObserve, text)
		require.Error(t, err, name)
	}
	b, err := llm.Read(llm.TaskObserve, "<observation><title>T</title><facts>\n- one\n- two &amp; three\n</facts></observation>")
	require.NoError(t, err)
	require.Equal(t, []string{"one", "two & three"}, b.Observations[0].Facts, "items without their tags")
	for text, want := range map[string][]string{
		`{'observations': [{'title': 'T', 'facts': ['it\'s "so"', "don't"]}]}`:                                     {`it's "so"`, "don't"},
		`<observation><title>T</title><facts><fact><![CDATA[a < b &amp; c]]> &amp; d</fact></facts></observation>`: {"a < b &amp; c & d"},
	} {
		b, err = llm.Read(llm.TaskObserve, text)
		require.NoError(t, err)
		require.Equal(t, want, b.Observations[0].Facts)
	}
	b, err = llm.Read(llm.TaskObserve, "{\"title\":\"T\"}\n{\"title\":\"U\"}\nThat is all.")
	require.NoError(t, err)
	require.Len(t, b.Observations, 2, "a note a line")
	b, err = llm.Read(llm.TaskObserve, `{"observations":[{"title":"T","filesRead":["a.go"],"files-modified":["b.go"]}]}`)
	require.NoError(t, err)
	require.Equal(t, []string{"a.go"}, b.Observations[0].FilesRead)
	require.Equal(t, []string{"b.go"}, b.Observations[0].FilesModified)
	a, err := llm.Read(llm.TaskSummarize, `<observation><title>T</title><narrative>N</narrative></observation>`)
	require.NoError(t, err)
	require.Equal(t, llm.Summary{Completed: "T", Learned: "N"}, *a.Summary, "notes make a summary")
	a, err = llm.Read(llm.TaskSummarize, `{"request":"R","next_steps":["one","two"]}`)
	require.NoError(t, err)
	require.Equal(t, llm.Summary{Request: "R", NextSteps: "one\ntwo"}, *a.Summary)
}

// FuzzRead gives the parser any answer: it must not panic, and what it makes
// of it keeps the bounds.
func FuzzRead(f *testing.F) {
	for _, text := range []string{
		`{"skip":false,"observations":[{"type":"bugfix","title":"T","facts":["a"],"events":["e1"]}]}`,
		"```xml\n<observation><type>x</type><title>a &lt;b&gt;</title><facts><fact>f</fact></facts></observation>\n```",
		`<summary><request>r</request><next_steps>n</next_steps></summary>`, `<skip_summary reason="x"/>`, `[[[[`, `{"summary":{"request":{}}}`,
		`<observation><observation></observation>`, "\x00\xff<title>", `{"observations":null,"skip":"yes"}`,
		`{"a":{"arguments":"{\"skip\":true}"}}`, `{"observations":[{"title":"T",},{"title":`, "<think>x</think>{\"skip\": True,}", `&lt;observation&gt;`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, task := range []llm.Task{llm.TaskObserve, llm.TaskSummarize} {
			a, err := llm.Read(task, text)
			if err != nil {
				require.NotEmpty(t, err.Error())
				continue
			}
			require.Equal(t, a.Skipped, len(a.Observations) == 0 && a.Summary == nil)
			for _, o := range a.Observations {
				require.NotEmpty(t, o.Type)
				o.Type = "discovery" // a model may have types of its own
				requireBounds(t, o)
			}
		}
	})
}

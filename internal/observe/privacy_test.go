package observe_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/internal/observe"
)

func TestStrip(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                     "",
		"a < b && c > d":                       "a < b && c > d",
		"a <private>x</private> b":             "a  b",
		"<private>x</private>":                 "",
		"<PRIVATE>x</Private> b":               " b",
		`<private reason="a > b">x</private>b`: "b",
		"<private\n>x</private\t>b":            "b",
		"<private>x</ private>b":               "b",
		"a<private>x":                          "a",
		"a<private":                            "a",
		"a<private >":                          "a",
		"a<private/>x</private>b":              "ab",
		"a</private>b":                         "ab",
		"<private>x<private>y</private>z</private>b":                 "b",
		"<private>x<system-reminder>y</private>z</system-reminder>b": "b",
		"<system-reminder>x</system-reminder><private>y</private>b":  "b",
		"<claude-mem-context>x</claude-mem-context>b":                "b",
		"<system_instruction>x</system_instruction>b":                "b",
		"<system-instruction>x</system-instruction>b":                "b",
		"<persisted-output>x</persisted-output>b":                    "b",
		"<system_instruction>x</system-instruction>b":                "",
		"<privateKey>x</privateKey>":                                 "<privateKey>x</privateKey>",
		"< private>x":                                                "< private>x",
		"<pri<private>x</private>vate>secret</private>b":             "", // the closing tag closes nothing at first
		"<private>x</private> and <private>y":                        " and ",
		`{"a":"<private>x<\/private>b"}`:                             `{"a":"b"}`,
		`{"a":"\u003cprivate\u003ex\u003c/private\u003eb"}`:          `{"a":"b"}`,
		`{\"a\":\"\\u003CPRIVATE\\u003Ex\\u003C/private\\u003Eb\"}`:  `{\"a\":\"b\"}`,
		"é<private>ü</private>😀":                                     "é😀",
		"&lt;private&gt;x&lt;/private&gt;b":                          "b",
		"&#60;Private a&#62;x&#x3C;/private&#x03e;b":                 "b",
		"&amp;lt;private&amp;gt;x&amp;lt;/private&amp;gt;b":          "b",
		`\u0026lt;private\u0026gt;x\u0026lt;/private\u0026gt;b`:      "b",
		`\x3cprivate\x3ex\x3c/private\x3eb`:                          "b",
		"%3Cprivate%3Ex%3C%2Fprivate%3Eb":                            "b",
		"%3Cprivate%20a%3Ex":                                         "",
		"<private>x&lt;/private&gt;b":                                "b",
		"a &lt; private &amp; b":                                     "a &lt; private &amp; b",
	} {
		require.Equal(t, want, observe.Strip(in), "%q", in)
	}
}

func TestStripGivesUpOnTextMadeToBeStrippedForEver(t *testing.T) {
	t.Parallel()
	nested := func(n int) string {
		return "a" + strings.Repeat("</pri", n) + "</private>" + strings.Repeat("vate>", n) + "b"
	}
	require.Equal(t, "ab", observe.Strip(nested(5)))
	require.Empty(t, observe.Strip(nested(100000)))
}

func TestStripDocumentKeepsToEachString(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		doc  string
		gone bool
	}{
		`{}`:       {`{}`, false},
		`null`:     {`{}`, false},
		`{"a":1}`:  {`{"a":1}`, false},
		`{"a":""}`: {`{"a":""}`, false},
		`"<private>x</private>"`: {
			`""`, true,
		},
		`{"a":"<private>x","b":"kept","c":"</private> also kept"}`: {
			`{"a":"","b":"kept","c":" also kept"}`, false,
		},
		`{"a":"<private>x</private>","b":[" ",{"c":"<private>y"}],"n":7}`: {
			`{"a":"","b":[" ",{"c":""}],"n":7}`, true,
		},
		`{"<private>k</private>a":"x","<private>l</private>a":"y"}`: {
			`{"a":"x","a":"y"}`, false,
		},
		`{"a":"\u003cprivate>x</private>"}`:  {`{"a":""}`, true},
		`["a<private>b","c","d</private>e"]`: {`["a","","e"]`, false},
		`{"lines":["+<private>","+x","+</private>"," y"],"z":"kept"}`: {
			`{"lines":["+","",""," y"],"z":"kept"}`, false,
		},
		`[{"type":"text","text":"<private>a"},{"type":"text","text":"b</private>c"},{"type":"text"}]`: {
			`[{"type":"text","text":""},{"":"","":"c"},{"type":"text"}]`, false,
		},
		`{"hunks":[{"lines":["<private>"]},{"lines":["x"],"at":5},{"lines":["</private>"]}],"b":"kept"}`: {
			`{"hunks":[{"lines":[""]},{"":[""],"":null},{"":[""]}],"b":"kept"}`, false,
		},
		`[["<private>",7,true,null,{"x":8}],"x","</private>",7]`:    {`[["",null,null,null,{"":null}],"","",7]`, true},
		`{"a":["<private>"],"b":["kept"]}`:                          {`{"a":[""],"b":["kept"]}`, false},
		`[{"a":"</private>","b":"</private>"},"<private>","x"]`:     {`[{"a":"","b":""},"",""]`, true},
		`["<private","reason='x'>","secret","</private","> after"]`: {`["","","","","> after"]`, false},
		`["<private>x","<private>y","</private>z","</private>b"]`:   {`["","","","b"]`, false},
		`{"big":123456789012345678901234567890.5}`: {
			`{"big":123456789012345678901234567890.5}`, false,
		},
	} {
		doc, gone, err := observe.HideDocument([]byte(in), 1<<20)
		require.NoError(t, err, in)
		require.Equal(t, want.doc, string(doc), in)
		require.Equal(t, want.gone, gone, in)
	}
}

func TestStripDocumentCutsAfterStripping(t *testing.T) {
	t.Parallel()
	in, err := json.Marshal(map[string]string{"a": strings.Repeat("ü", 500) + "<private>secret</private>" + strings.Repeat("ö", 500)})
	require.NoError(t, err)
	doc, gone, err := observe.HideDocument(in, 100)
	require.NoError(t, err)
	require.False(t, gone)
	require.True(t, json.Valid(doc))
	require.Less(t, len(doc), 150)
	require.NotContains(t, string(doc), "secret")
	require.Contains(t, string(doc), "ö", "the end is kept too")
}

// The property that matters: whatever stands around it, what is written
// inside a tag is not in the result.
func TestNothingInsideATagIsLeft(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	names := []string{"private", "claude-mem-context", "system_instruction", "system-instruction", "persisted-output", "system-reminder", "PriVate"}
	noise := rapid.StringOfN(rapid.RuneFrom([]rune("<>/ priv\"\\\n&é")), 0, 12, -1)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(names).Draw(t, "name")
		tag := "<" + name + rapid.SampledFrom([]string{"", " ", "\n", ` a="b"`, ` a=">"`}).Draw(t, "attributes") + ">"
		inner := noise.Draw(t, "before") + secret + noise.Draw(t, "after")
		s := noise.Draw(t, "left") + tag + inner + "</" + name + ">" + noise.Draw(t, "right")
		for range rapid.IntRange(0, 2).Draw(t, "wrapped") {
			other := rapid.SampledFrom(names).Draw(t, "outer")
			s = noise.Draw(t, "l") + "<" + other + ">" + s + rapid.SampledFrom([]string{"", "</" + other + ">"}).Draw(t, "close")
		}
		kept := observe.Strip(s)
		require.NotContains(t, kept, secret)
		require.Equal(t, kept, observe.Strip(kept), "stripping again finds nothing")

		text := s
		for range rapid.IntRange(0, 2).Draw(t, "encoded") {
			b, err := json.Marshal(map[string]string{"k": text}) // has its < as \u003c
			require.NoError(t, err)
			text = string(b)
		}
		doc, _, err := observe.HideDocument(marshal(t, map[string]any{"a": []any{text, 1}, text: "kept"}), 1<<20)
		require.NoError(t, err)
		require.True(t, json.Valid(doc))
		require.NotContains(t, string(doc), secret)
		require.Contains(t, string(doc), "kept", "what stands in other fields stays")
	})
}

func marshal(t require.TestingT, v any) []byte {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

func FuzzStrip(f *testing.F) {
	for _, s := range []string{"<private>x</private>", "<pri<private>x</private>vate>", `\u003cprivate\u003e`, "</private", "<private a='", "\xff<private\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		kept := observe.Strip(s)
		require.LessOrEqual(t, len(kept), len(s))
		require.Equal(t, kept, observe.Strip(kept))
		doc, _, err := observe.HideDocument(marshal(t, s), 64)
		require.NoError(t, err)
		require.True(t, json.Valid(doc))
	})
}

func TestStorable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"a\u0000b":"x\u0000y"}`:             `{"a` + "\uFFFD" + `b":"x` + "\uFFFD" + `y"}`,
		`["\ud800","\udc00x","\ud83d\ude00"]`: `["` + "\uFFFD" + `","` + "\uFFFD" + `x","😀"]`,
		"\"\xff\"":                            "\"\uFFFD\"",
		`[1e400,-1e999999,1e-999999,1.50]`:    `[null,null,0,1.50]`,
		`[0.000,0e5]`:                         `[0.000,0]`,
	} {
		got, err := observe.Storable([]byte(in))
		require.NoError(t, err, in)
		require.Equal(t, want, string(got), in)
	}
}

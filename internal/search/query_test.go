package search_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/search"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"relays wait":            "((('relay'))&(('wait')))",
		"relay or broker":        "((('relay')|('broker')))",
		"relay -broker":          "((('relay')))&!(('broker'))",
		"conf*":                  "((('conf':*)))",
		"getUserById":            "(('getuserbyid'|('get')&('user')&('id')))",
		"a/openBatch2.go":        "(('openbatch2go'|('open')&('batch')&('2')&('go')))",
		"--data-dir":             "(('datadir'|('data')&('dir')))",
		"\"two workers\" -the":   "((('two'))&(('worker')))",
		"数据库":                    "((('数据'))&(('据库')))",
		"库":                      "((('库')))",
		"ÜBERSICHT c++":          "((('ubersicht'))&(('cpp')))",
		"9f8e7":                  "((('9f8e7':*)))",
		"the of and":             "",
		"or or":                  "",
		"-\"two workers\" relay": "((('relay')))",
	} {
		q := search.Parse(text)
		require.Equal(t, want, q.All(), text)
		require.Equal(t, want == "", q.Nothing(), text)
	}
	require.Equal(t, []string{`\mtwo\w*\W+worker\w*`}, search.Parse(`"two workers"`).Phrases)
	require.Equal(t, []string{`\mwithout\w*\W+a\M`}, search.Parse(`"without a"`).Phrases)
	long := search.Parse(strings.Repeat("and so on the very many words are here getUserById ", 3) + strings.Join(strings.Split("abcdefghijklmnopqrst", ""), "word x"))
	require.LessOrEqual(t, len(long.Terms), search.MaxTerms)
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"relay", "relays", "delay", "array", "retry"}
	require.Equal(t, []string{"relay"}, search.Nearest("relya", words, 3), "two letters swapped")
	require.Equal(t, []string{"relay", "delay"}, search.Nearest("elay", words, 3))
	require.Empty(t, search.Nearest("xyzzy", words, 3))
	require.Equal(t, []string{"migration"}, search.Nearest("migartoin", []string{"migration"}, 3), "two in a long word")
}

func TestHighlights(t *testing.T) {
	t.Parallel()
	n := search.Note{
		Title: "The relay leads", Facts: []string{"nothing of it here", "internal/outbox/relay.go waits for the lead"},
		Narrative: strings.Repeat("Long words before. ", 30) + "Then the relays retry. " + strings.Repeat("And after it ü. ", 30),
	}
	got := search.Parse("relay retrying").Highlights(n)
	require.Len(t, got, 3)
	require.Equal(t, "The **relay** leads", got[0])
	require.Contains(t, got[2], "**relays** **retry**")
	require.Less(t, utf8.RuneCountInString(got[2]), 220)
	require.Empty(t, search.Parse("zebra").Highlights(n))
	require.Equal(t, []string{"**getUser**ById and **get** a **user**"}, search.Parse("get user").Highlights(search.Note{Title: "getUserById and get a user"}))
}

// In scripts without spaces a word is found within others, and letters are found
// without what is above them.
func TestOtherScripts(t *testing.T) {
	t.Parallel()
	n := search.Note{Title: "データベースの接続が切れる", Narrative: "Größenänderung: die Straße der Übersicht, naïve."}
	for query, want := range map[string]string{
		"データベース": "**データベース**の接続が切れる", "接続": "データベースの**接続**が切れる", "続": "データベースの接**続**が切れる",
		"grossenanderung": "**Größenänderung**: die Straße der Übersicht, naïve.", "u\u0308bersicht": "Größenänderung: die Straße der **Übersicht**, naïve.",
		"strasse naive": "Größenänderung: die **Straße** der Übersicht, **naïve**.",
	} {
		q := search.Parse(query)
		require.Positive(t, q.Score(n), query)
		require.Equal(t, []string{want}, q.Highlights(n), query)
	}
	require.Zero(t, search.Parse("接切").Score(n))
}

func TestWhatSaysMoreOfTheQueryIsBetter(t *testing.T) {
	t.Parallel()
	q := search.Parse("relay lease clock")
	q.Weigh(100, []int{30, 5, 5})
	all := search.Note{Narrative: "The lease of the relay is by one clock."}
	title := search.Note{Title: "The relay's lease", Narrative: "It ends."}
	one := search.Note{Title: "Relay, relay, relay"}
	require.Greater(t, q.Score(all), q.Score(title))
	require.Greater(t, q.Score(title), q.Score(one))
}

func TestSameNote(t *testing.T) {
	t.Parallel()
	sketch := func(s string) search.Sketch { return search.Note{Body: s}.Sketch() }
	require.True(t, search.SameNote(sketch("The relay waits for the lease."), sketch("the relay   waits for THE lease")))
	require.False(t, search.SameNote(sketch("The relay waits for the lease"), sketch("The relay does not wait for the lease")))
	require.False(t, search.SameNote(sketch("from 3 to 5"), sketch("from 3 to 7")))
	require.False(t, search.SameNote(sketch(""), sketch("")), "nothing is like nothing")
}

var questionMade = regexp.MustCompile(`^[\pL\pN\pM\p{So}'()|&!:*]*$`)

// Whatever is typed makes a question that Postgres can read: lexemes of
// letters and digits in quotes, and what joins them.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"relay or \"two workers\" -not", `"`, "-\"", "a*", "getUserById.go/x-y_z", "'s ’t", "\xff\x00", "-- - -", `"a b" or "c`, "数据 über*", "㉳ 🦀 ship it 🚀*", "c++ f#"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q := search.Parse(text)
		if len(q.Terms) > search.MaxTerms {
			t.Fatal("too many terms")
		}
		asked := q.All() + q.Any(q.Positive()...) + search.Path(text)
		if !questionMade.MatchString(asked) || strings.Count(asked, "'")%2 != 0 || strings.Contains(asked, "''") {
			t.Fatalf("%q", asked)
		}
		n := search.Note{Title: text, Facts: []string{text}}
		for _, h := range q.Highlights(n) {
			if utf8.ValidString(text) && !utf8.ValidString(h) {
				t.Fatalf("%q is cut within a character", h)
			}
		}
		if s := q.Score(n); s < 0 || s != s {
			t.Fatal(s)
		}
		for lexeme := range strings.FieldsSeq(n.Entry("@x", text).Vector) {
			if !regexp.MustCompile(`^[@#]?([\pL\pN\pM]*|\p{So})$`).MatchString(lexeme) {
				t.Fatalf("%q", lexeme)
			}
		}
	})
}

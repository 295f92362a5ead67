package search_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/search"
)

func lexemes(text string) string {
	return search.Note{Body: text}.Entry("@", "x").Vector[len("@ #x"):]
}

func TestLexemes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                      "",
		"The relays retried":    " relay retri",
		"getUserById":           " getuserbyid get user id",
		"get_user_by_id":        " getuserbyid get user id",
		"a/openBatch2.go":       " openbatch2go openbatch2 openbatch open batch 2 go",
		"HTTPServer":            " httpserver http server",
		"src/api/handle.go":     " src api handlego handl go",
		"./part3":               " part3 part 3",
		"utf8mb4 1be4f3a 2xx":   " utf8mb4 1be4f3a 2xx",
		"don't, it's Ann's":     " ann",
		"--data-dir=x":          " datadir data dir",
		"Größe überall naïve":   " gross uberal naiv",
		"A\u0308rger, ÅNGSTRÖM": " arger angstrom",
		"数据库 x2":                " 数 数据 据 据库 库 x2 2",
		"DBの接続":                 " db の の接 接 接続 続",
		"C++ and C#, not c+":    " cpp csharp",
		"🚀 rocket":              " 🚀 rocket",
		"a\x00b' \\ : | & !":    "",
	} {
		require.Equal(t, want, lexemes(text), text)
	}
}

// A client's text is found also where its metadata has facts of their own, and
// counts once where the parts are the text.
func TestWhatTheTextHasBeyondItsParts(t *testing.T) {
	t.Parallel()
	n := search.NoteOf("getUserById is stale\n\nThe cache keeps it.\n\n- ttl is 30s", []byte(`{"facts":["ttl is 30s"],"files_modified":["src/a.go"]}`))
	require.Equal(t, []string{"ttl is 30s"}, n.Facts)
	require.Contains(t, n.Entry("@", "x").Vector, " getuserbyid get user id")
	require.NotContains(t, n.Body, "ttl")
	require.Empty(t, search.NoteOf("A title\n\nOne line.\nAnother.\n\n- a fact", []byte(`{"title":"A title","narrative":"One line.\nAnother.","facts":["a fact"]}`)).Body)
	require.Equal(t, "all of it", search.NoteOf("all of it", []byte(`{"anything":1}`)).Body)
	require.Equal(t, "all of it", search.NoteOf("all of it", []byte(`no JSON`)).Body)
}

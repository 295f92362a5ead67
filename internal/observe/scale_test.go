package observe_test

import (
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/load"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/internal/search"
	"github.com/seed-245eaa15/obs/internal/testenv"
)

var (
	scaleRows  = flag.Int("scale.rows", 3000, "how many observations TestSearchAtScale searches")
	scaleAsks  = flag.Int("scale.asks", 60, "how many searches it does")
	scaleOn    = flag.String("scale.on", "", "the URL of a database that holds them already, instead of making them")
	scaleEvery = flag.Bool("scale.each", false, "print each search that is slow")
)

// babble makes texts as agents' notes are: the words by Zipf's law, the most
// used ones those of the retrieval benchmark's notes, the rare ones made up.
type babble struct {
	rng   *rand.Rand
	words []string
	zipf  *rand.Zipf
}

func newBabble(t testing.TB, seed uint64) *babble {
	t.Helper()
	text, err := os.ReadFile("../search/testdata/observations.jsonl")
	require.NoError(t, err)
	count := map[string]int{}
	for line := range strings.Lines(string(text)) {
		var o struct{ Note search.Note }
		require.NoError(t, json.Unmarshal([]byte(line), &o))
		for w := range strings.FieldsSeq(o.Note.Title + " " + o.Note.Narrative + " " + strings.Join(o.Note.Facts, " ")) {
			if w = strings.Trim(w, "`.,:;()\"'"); len(w) > 1 && len(w) < 30 && !strings.ContainsAny(w, "\n\x00") {
				count[w]++
			}
		}
	}
	b := &babble{rng: rand.New(rand.NewPCG(seed, 1))}
	for w := range count {
		b.words = append(b.words, w)
	}
	slices.SortFunc(b.words, func(x, y string) int {
		if count[x] != count[y] {
			return count[y] - count[x]
		}
		return strings.Compare(x, y)
	})
	syllables := strings.Fields("ba ce di fo gu ha ji ke lo mu na pi qo re su ta vu wi xe yo zan tor mel bri ske pla")
	for len(b.words) < 60_000 {
		var w strings.Builder
		for range 2 + b.rng.IntN(3) {
			w.WriteString(syllables[b.rng.IntN(len(syllables))])
		}
		b.words = append(b.words, w.String())
	}
	b.zipf = rand.NewZipf(b.rng, 1.1, 8, uint64(len(b.words)-1))
	return b
}

func (b *babble) say(n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = b.words[b.zipf.Uint64()]
	}
	return strings.Join(out, " ")
}

func (b *babble) note() search.Note {
	n := search.Note{Title: b.say(4 + b.rng.IntN(8)), Narrative: b.say(10 + b.rng.IntN(50))}
	for range b.rng.IntN(5) {
		n.Facts = append(n.Facts, b.say(4+b.rng.IntN(14)))
	}
	for range b.rng.IntN(3) {
		n.Modified = append(n.Modified, fmt.Sprintf("internal/%s/%s.go", b.words[b.rng.IntN(300)], b.words[b.zipf.Uint64()]))
	}
	return n
}

// question is what somebody remembers of a note: some of its words, as often
// rare ones as common ones.
func (b *babble) question() string {
	n := b.note()
	var words []string
	for w := range strings.FieldsSeq(n.Title + " " + n.Narrative) {
		if strings.IndexFunc(w, func(r rune) bool { return r < 'A' || r > 'z' }) < 0 {
			words = append(words, w)
		}
	}
	b.rng.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	return strings.Join(words[:min(len(words), 1+b.rng.IntN(6))], " ")
}

// fillNotes gives the project n notes, made over the last year.
func fillNotes(t testing.TB, w *world, b *babble, n int) {
	t.Helper()
	const at = 20_000
	conn, err := w.pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	mark := search.Scope(w.team, w.project)
	words := map[string]string{}
	kinds := []string{"change", "change", "discovery", "discovery", "bugfix", "feature", "refactor", "decision"}
	for done := 0; done < n; done += at {
		r, pipe := io.Pipe()
		go func() {
			out := csv.NewWriter(pipe)
			for i := done; i < min(done+at, n); i++ {
				note, kind := b.note(), kinds[b.rng.IntN(len(kinds))]
				meta, _ := json.Marshal(note)
				entry := note.Entry(mark, kind)
				for _, w := range entry.Words {
					words[w.Lexeme] = w.Word
				}
				_ = out.Write([]string{
					fmt.Sprintf("note-%08d", i), w.team, w.project, kind, observe.NoteText(note.Title, "", note.Narrative, note.Facts), entry.Vector,
					string(meta), time.Now().Add(-time.Duration(n-i) * (365 * 24 * time.Hour / time.Duration(n))).Format(time.RFC3339Nano),
				})
			}
			out.Flush()
			_ = pipe.CloseWithError(out.Error())
		}()
		_, err := conn.Conn().PgConn().CopyFrom(t.Context(), r,
			"COPY observations (id, team_id, project_id, kind, content, content_search, metadata, created_at) FROM STDIN (FORMAT csv)")
		require.NoError(t, err)
	}
	lexemes, forms := make([]string, 0, len(words)), make([]string, 0, len(words))
	for l, w := range words {
		lexemes, forms = append(lexemes, l), append(forms, w)
	}
	_, err = conn.Exec(t.Context(), `INSERT INTO observation_words (team_id, project_id, lexeme, word) SELECT $1, $2, unnest($3::text[]), unnest($4::text[]) ON CONFLICT DO NOTHING`,
		w.team, w.project, lexemes, forms)
	require.NoError(t, err)
}

// However many notes a project has, a search looks at few of them. `task
// bench:search -- -scale.rows 1000000 -scale.asks 300` measures how long that takes.
func TestSearchAtScale(t *testing.T) {
	var w *world
	if *scaleOn == "" {
		w = newWorld(t)
		began := time.Now()
		fillNotes(t, w, newBabble(t, 1), *scaleRows)
		t.Logf("%d notes written in %v", *scaleRows, time.Since(began).Round(time.Second))
		_, err := w.pool.Exec(t.Context(), "VACUUM ANALYZE observations")
		require.NoError(t, err)
	} else {
		pool, err := db.Open(t.Context(), db.Config{URL: *scaleOn, MaxConns: 1})
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		w = &world{pool: pool}
		w.Service = observe.New(observe.Config{Pool: pool, Log: testenv.Log(t)})
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT team_id, project_id FROM observations LIMIT 1").Scan(&w.team, &w.project))
		w.me = w.caller(t, w.team, w.project, observe.ScopeRead)
	}
	if *scaleAsks == 0 {
		t.Fatal("the database is kept for others to search, with OBS_TEST_KEEP=1")
	}
	ask, before := newBabble(t, 2), cpu(t, w)
	var took []time.Duration
	found := 0
	for range *scaleAsks {
		q := ask.question()
		began := time.Now()
		page, err := w.Search(t.Context(), w.me, observe.Query{ProjectID: w.project, Query: q})
		d := time.Since(began)
		require.NoError(t, err)
		took = append(took, d)
		found += min(1, len(page.Hits))
		if *scaleEvery && d > 40*time.Millisecond {
			t.Logf("%v %q", d.Round(time.Millisecond), q)
		}
	}
	spent := cpu(t, w) - before
	slices.Sort(took)
	at := func(p float64) time.Duration { return took[int(p*float64(len(took)-1))].Round(10 * time.Microsecond) }
	load, _ := os.ReadFile("/proc/loadavg")
	t.Logf("%d searches of %d notes: p50 %v, p95 %v, p99 %v, most %v; %d found something; "+
		"%v of CPU each, Postgres' and ours; load %s",
		len(took), *scaleRows, at(0.5), at(0.95), at(0.99), at(1), found, (spent / time.Duration(len(took))).Round(10*time.Microsecond), strings.TrimSpace(string(load)))
	require.Greater(t, found, len(took)/2, "questions are of the same words as the notes, also of those that few have")
}

// cpu is what this process and the backends of its pool have used: the time of
// a search depends on who else is on the machine, and this hardly does.
func cpu(t *testing.T, w *world) time.Duration {
	t.Helper()
	rows, err := w.pool.Query(t.Context(), "SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
	require.NoError(t, err)
	backends, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	sum := load.Self("").CPU()
	for _, pid := range backends {
		sum += load.Process{PID: pid}.CPU() // 0 for the backend of another machine
	}
	return sum
}

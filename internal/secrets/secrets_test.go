package secrets_test

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/demo"
	"github.com/seed-245eaa15/obs/internal/secrets"
	"github.com/seed-245eaa15/obs/internal/secrets/secretstest"
)

// gone asserts that no part of a secret is left in a text, nor the half of one.
func gone(t *testing.T, s secretstest.Secret, text string) {
	t.Helper()
	for _, part := range s.Parts {
		require.NotContains(t, text, part[:len(part)*2/3], s.Kind)
		require.NotContains(t, text, part[len(part)/3:], s.Kind)
	}
}

// TestEachKindIsFound: whatever stands around it.
// A line that goes on behind a backslash is one with the next.
func TestASecretOnTwoLines(t *testing.T) {
	t.Parallel()
	key := "AKIA" + "QWERTYUIOPASDFGH"
	for _, text := range []string{
		"export K=" + key[:9] + "\\\n" + key[9:] + "\nnext", "+K=" + key[:2] + "\\\n+" + key[2:10] + "\\\n+" + key[10:], "a\\\n" + key,
	} {
		require.True(t, secrets.Suspect([]byte(text)))
		doc, err := json.Marshal(text)
		require.NoError(t, err)
		require.True(t, secrets.SuspectJSON(doc))
		clean, found := secrets.Redact(text)
		require.Equal(t, []string{"aws-access-token"}, found)
		require.Equal(t, strings.Count(text, "\n"), strings.Count(clean, "\n"))
		require.NotContains(t, clean, "OPASDFGH")
		require.NotContains(t, clean, "QWERT")
	}
	plain := "go test \\\n  ./a \\\n  ./b"
	clean, _ := secrets.Redact(plain)
	require.Equal(t, plain, clean)
}

func TestEachKindIsFound(t *testing.T) {
	t.Parallel()
	kinds := map[string]bool{}
	n := 0
	for seed := range uint64(25) {
		for _, s := range secretstest.Planted(seed) {
			n++
			kinds[s.Kind] = true
			for _, around := range [][2]string{{"", ""}, {"see ", " there"}, {"\n", "\n"}, {strings.Repeat("before. ", 90), strings.Repeat(" after", 90)}, {"é→ ", " ←"}} {
				text := around[0] + s.Text + around[1]
				require.True(t, secrets.Suspect([]byte(text)), s.Kind)
				clean, found := secrets.Redact(text)
				gone(t, s, clean)
				require.NotEmpty(t, found, s.Kind)
				require.Equal(t, found, secrets.Marked(clean))
				require.Equal(t, strings.Count(text, "\n"), strings.Count(clean, "\n"), s.Kind)
				again, more := secrets.Redact(clean)
				require.Equal(t, clean, again, "%s: once is enough", s.Kind)
				require.Empty(t, more)
			}
		}
	}
	require.Greater(t, len(kinds), 60)
	t.Logf("%d secrets of %d kinds", n, len(kinds))
}

// TestManyInOneText: all of them in any order.
func TestManyInOneText(t *testing.T) {
	t.Parallel()
	all := secretstest.Planted(7)
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		var text strings.Builder
		for _, s := range all {
			if s.Kind != "private key without its end" {
				text.WriteString(s.Text + "\nand then\n")
			}
		}
		clean, _ := secrets.Redact(text.String())
		for _, s := range all {
			if s.Kind != "private key without its end" {
				gone(t, s, clean)
			}
		}
		require.GreaterOrEqual(t, strings.Count(clean, "and then"), len(all)-2)
	}
}

// TestWhatIsNoSecretStays: code, prose and figures that only look like it.
func TestWhatIsNoSecretStays(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"token := next()", "password = os.Getenv(name)", "if token == nil {", "secretName: db-credentials-2", "max_tokens = 4096, tokens_in: 123456789",
		"sum := 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "commit 02a7a640e8f1d5c2b3a49687f0e1d2c3b4a59687",
		"http://127.0.0.1:8080/path@v2", "const task = `task-list-of-things`", "key: value", "primary key: user_id_2", "the api key is read from OBS_API_KEY",
		"github.com/jackc/pgx/v5 v5.12.0 h1:5vT3yLm0jVxDqkSMa8wvpKFrPBaPvCbFzwA8m3f1o2k=", "password: string;", "token: ${{ secrets.GITHUB_TOKEN }}", "password=$DB_PASSWORD_2",
		"apiKey: process.env.API_KEY_2", "Authorization: Bearer <token>", "the basic authentication scheme", "test_something_that_takes_long_enough", "next_attempt_at msg.Data",
		"tokenizer = \"gpt2-medium-v1\"", "<password>", "type Token struct {", "func key(a, b string) string", "a-very-long-kebab-case-identifier-that-goes-on-and-on-and-on-and-on",
		"====================================================================", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"TestTokenIsRefused1234567890WhenItHasExpiredAlready", "sk-learn-contrib", "/etc/obs/token1/secret2", "token=\"\"", "ghp_", "password: ********",
	} {
		clean, found := secrets.Redact(text)
		require.Equal(t, text, clean)
		require.Empty(t, found)
	}
	// A day's work on this repository holds none.
	s, err := demo.Session()
	require.NoError(t, err)
	for _, e := range s.Events {
		clean, found := secrets.Redact(string(e.Payload))
		require.Empty(t, found, "%s", around(clean))
	}
}

func around(clean string) string {
	at := strings.Index(clean, "[redacted:")
	return clean[max(0, at-80):min(len(clean), max(at, 0)+80)]
}

func TestNamed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"password", "DB_PASSWORD", "apiKey", "X-Api-Key", "client_secret", "accessToken", "AWS_SECRET_ACCESS_KEY", "private_key", "credentials"} {
		_, ok := secrets.Named(name, "f8Kq2mZr91xWt5")
		require.True(t, ok, name)
		_, ok = secrets.Named(name, "${FROM_ELSEWHERE_1}")
		require.False(t, ok, name)
	}
	for _, name := range []string{"key", "file_path", "tokenizer", "secretName", "token_type", "total_tokens_in", "monkey"} {
		_, ok := secrets.Named(name, "f8Kq2mZr91xWt5")
		require.False(t, ok, name)
	}
}

func TestTitles(t *testing.T) {
	t.Parallel()
	for kind, title := range map[string]string{
		"aws-access-token": "AWS access token", "private-key": "private key", "github-pat": "GitHub access token", "stripe-access-token": "Stripe access token", "nats-seed": "NATS seed",
	} {
		require.Equal(t, title, secrets.Title(kind))
		require.True(t, secrets.Sure(kind))
	}
	require.False(t, secrets.Sure("password"))
}

func FuzzRedact(f *testing.F) {
	for _, s := range secretstest.Planted(1) {
		f.Add(s.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		clean, found := secrets.Redact(text)
		if !secrets.Suspect([]byte(text)) && (clean != text || len(found) > 0) {
			t.Fatal("it was not suspect")
		}
		if strings.Count(clean, "\n") != strings.Count(text, "\n") {
			t.Fatal("lines were lost")
		}
		if len(found) == 0 && clean != text {
			t.Fatal("changed without a reason")
		}
	})
}

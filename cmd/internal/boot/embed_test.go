package boot_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEmbeddingsAreNamed(t *testing.T) {
	t.Parallel()
	with := func(env map[string]string, args ...string) (string, error) {
		c, err := parse(t, env, append([]string{"--database-url", someDatabase, "--nats-url", someNATS}, args...)...)
		if c.Near.Embeddings == nil {
			return "", err
		}
		require.Equal(t, time.Second, c.Near.Patience)
		require.InDelta(t, 0.25, c.Near.Floor, 0)
		return c.Near.Embeddings.Space(), err
	}
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte("k\n"), 0o600))
	for _, tt := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{nil, nil, ""},
		{map[string]string{"OPENAI_API_KEY": "k"}, nil, ""},
		{map[string]string{"OPENAI_API_KEY": "k", "OBS_EMBED_MODEL": "m"}, nil, "m"},
		{map[string]string{"OBS_EMBED_MODEL": "m", "OBS_EMBED_URL": "http://127.0.0.1:1/v1"}, nil, "m"},
		{nil, []string{"--embed-model", "m", "--embed-key-file", file, "--embed-dimensions", "256"}, "m@256"},
	} {
		space, err := with(tt.env, tt.args...)
		require.NoError(t, err)
		require.Equal(t, tt.want, space)
	}
	for want, args := range map[string][]string{
		"needs a key, or the URL":               {"--embed-model", "m"},
		"needs the name of a model":             {"--embed-url", "http://127.0.0.1:1/v1"},
		"its URL is to be such as":              {"--embed-url", "127.0.0.1:1", "--embed-model", "m"},
		"without --embed-model":                 {"--embed-key", "k"},
		"(OBS_EMBED_KEY_FILE) exclude":          {"--embed-key", "k", "--embed-key-file", file, "--embed-model", "m"},
		"--embed-floor (OBS_EMBED_FLOOR): got":  {"--embed-floor", "1.5"},
		"--embed-dimensions (OBS_EMBED_DIMENSI": {"--embed-dimensions", "many"},
		"no such file":                          {"--embed-key-file", "/no/such/file", "--embed-model", "m"},
	} {
		_, err := with(nil, args...)
		require.ErrorContains(t, err, want, "%v", args)
	}
}

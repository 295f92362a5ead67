package boot_test

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
)

const (
	someDatabase = "postgres://u:secret@db:5432/obs"
	someNATS     = "nats://a:4222,nats://b:4222"
)

// parse reads flags and variables into a worker's configuration.
func parse(t *testing.T, env map[string]string, args ...string) (boot.Config, error) {
	t.Helper()
	s, _, _ := std(env, args...)
	var cli struct {
		boot.WorkerFlags
		Jobs boot.JobFlags `embed:""`
	}
	_, err := boot.Parse(t.Context(), s, "obs-worker", "about", boot.DefaultWorkerAddr, &cli)
	require.NoError(t, err)
	return boot.Load(cli.DatabaseFlags, cli.BrokerFlags, cli.LeaseFlags, cli.LaneFlags, cli.Jobs, cli.ProviderFlags, cli.EmbedFlags, cli.HTTPFlags, cli.LogFlags)
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := parse(t, nil, "--database-url", someDatabase, "--nats-url", someNATS)
	require.NoError(t, err)
	require.Equal(t, someDatabase, c.DatabaseURL)
	require.Equal(t, someNATS, c.NATSURL)
	require.EqualValues(t, 10, c.PoolSize)
	require.Equal(t, 10*time.Second, c.ConnectTimeout)
	require.Equal(t, boot.DefaultWorkerAddr, c.Addr)
	require.Equal(t, 30*time.Second, c.Lease)
	require.Equal(t, 20*time.Second, c.Grace)
	require.Equal(t, 3, c.MaxAttempts)
	require.Zero(t, c.Debounce)
	require.Equal(t, slog.LevelInfo, c.LogLevel)
	require.Equal(t, 1, c.Streams.Replicas)
	require.Equal(t, jetstream.FileStorage, c.Streams.Storage)
	require.EqualValues(t, 1<<30, c.Streams.EventsMaxBytes)
	require.Equal(t, observe.Kinds(), c.Streams.Kinds)
	require.Len(t, c.Lanes, len(observe.Kinds()))
	require.Zero(t, c.Lanes[observe.KindEvent].Slots, "the handler's own word holds")
}

func TestVariablesAndFlags(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"OBS_DATABASE_URL": someDatabase, "OBS_NATS_URL": someNATS, "OBS_LEASE": "7s", "OBS_SLOTS": "event=4, summary=0",
		"OBS_NATS_REPLICAS": "3", "OBS_NATS_STORAGE": "memory", "OBS_LOG_FORMAT": "json", "OBS_LOG_LEVEL": "debug",
		"OBS_EVENTS_MAX_BYTES": "20 MiB", "OBS_GRACE": "", "OBS_ADDR": "off",
	}
	c, err := parse(t, env, "--lease", "9s", "--log-level=warn")
	require.NoError(t, err)
	require.Equal(t, 9*time.Second, c.Lease, "the flag wins")
	require.Equal(t, slog.LevelWarn, c.LogLevel)
	require.Equal(t, 20*time.Second, c.Grace, "an empty variable is none")
	require.Equal(t, 4, c.Lanes[observe.KindEvent].Slots)
	require.Negative(t, c.Lanes[observe.KindSummary].Slots)
	require.Equal(t, 5*time.Minute, c.Lanes[observe.KindEvent].Timeout)
	require.Equal(t, 3, c.Streams.Replicas)
	require.Equal(t, jetstream.MemoryStorage, c.Streams.Storage)
	require.True(t, c.LogJSON)
	require.EqualValues(t, 20<<20, c.Streams.EventsMaxBytes)
	require.Empty(t, c.Addr)
}

func TestAllConfigurationErrorsAtOnce(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"OBS_DATABASE_URL": "postgres://u:secret@[bad", "OBS_LEASE": "3", "OBS_SLOTS": "event=x,cooking=1",
		"OBS_NATS_CERT": "/does/not/exist",
	}
	code, stderr := worker(t.Context(), env,
		"--nats-url", "http://u:secret@x", "--nats-replicas", "2", "--nats-prefix", "a.b", "--pool-size", "no", "--log-level", "loud",
		"--log-format", "xml", "--addr", "here", "--provider", "nobody", "--events-max-bytes", "many", "--grace=-1s")
	require.Equal(t, boot.ExitMisused, code)
	for _, want := range []string{
		"--database-url (OBS_DATABASE_URL): it is no URL",
		"--nats-url (OBS_NATS_URL): it is no URL",
		`--nats-replicas (OBS_NATS_REPLICAS): got "2", want 1 or 3 or 5`,
		`--nats-prefix (OBS_NATS_PREFIX): got "a.b"`,
		"--nats-cert (OBS_NATS_CERT): open /does/not/exist",
		"--nats-cert (OBS_NATS_CERT): it and --nats-key",
		`--pool-size (OBS_POOL_SIZE): got "no"`,
		`--log-level (OBS_LOG_LEVEL): got "loud"`,
		`--log-format (OBS_LOG_FORMAT): got "xml"`,
		`--addr (OBS_ADDR): got "here"`,
		`--provider (OBS_PROVIDER): unknown provider "nobody"`,
		`--events-max-bytes (OBS_EVENTS_MAX_BYTES): got "many"`,
		`--grace (OBS_GRACE): got "-1s"`,
		`--lease (OBS_LEASE): got "3", want a time such as 30s or 5m, at least 1s`,
		`--slots (OBS_SLOTS): got "event=x"`,
		`--slots (OBS_SLOTS): "cooking" is no kind of job`,
	} {
		require.Contains(t, stderr.String(), want)
	}
	require.Len(t, stderr.lines(), 16, "a line for each: %s", stderr)
	for _, line := range stderr.lines() {
		require.True(t, strings.HasPrefix(line, "obs-worker: "), line)
	}
	require.NotContains(t, stderr.String(), "secret")
}

func TestURLsAreNeeded(t *testing.T) {
	t.Parallel()
	code, stderr := worker(t.Context(), nil)
	require.Equal(t, boot.ExitMisused, code)
	require.Len(t, stderr.lines(), 2)
	require.Contains(t, stderr.String(), "--database-url (OBS_DATABASE_URL): it is needed")
	require.Contains(t, stderr.String(), "--nats-url (OBS_NATS_URL): it is needed")

	_, err := boot.LoadOptional(boot.DatabaseFlags{PoolSize: "4", ConnectTimeout: "1s"})
	require.NoError(t, err, "obs dev starts its own")
}

func TestProviderKeyComesFromAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte("sk-1\n"), 0o600))
	c, err := parse(t, nil, "--database-url", someDatabase, "--nats-url", someNATS, "--provider-key-file", file)
	require.NoError(t, err)
	require.Equal(t, "sk-1", c.Providers[0].Key)
}

// Switching the provider is one variable: its key is where people have it.
func TestProvidersOfTheEnvironment(t *testing.T) {
	t.Parallel()
	with := func(env map[string]string, args ...string) (boot.Config, error) {
		return parse(t, env, append([]string{"--database-url", someDatabase, "--nats-url", someNATS}, args...)...)
	}
	keys := map[string]string{"ANTHROPIC_API_KEY": "k-a", "GEMINI_API_KEY": "k-g", "OPENAI_API_KEY": "k-o", "OPENROUTER_API_KEY": "k-r"}
	for name, key := range map[string]string{"anthropic": "k-a", "gemini": "k-g", "openai": "k-o", "openrouter": "k-r", "offline": ""} {
		env := map[string]string{"OBS_PROVIDER": name}
		maps.Copy(env, keys)
		c, err := with(env)
		require.NoError(t, err)
		require.Len(t, c.Providers, 1)
		require.Equal(t, name, c.Providers[0].Provider)
		require.Equal(t, key, c.Providers[0].Key)
		p, err := c.OpenProvider(slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		require.Equal(t, name, p.Name())
	}

	env := map[string]string{"OBS_PROVIDER": "anthropic, openai,offline", "OBS_PROVIDER_MODEL": "openai=m2,m1", "OBS_PROVIDER_URL": "openai=http://127.0.0.1:1/v1"}
	maps.Copy(env, keys)
	c, err := with(env, "--provider-key", "anthropic=k=1,openai=k2", "--provider-timeout", "7s")
	require.NoError(t, err)
	require.Equal(t, []llm.Config{
		{Provider: "anthropic", Model: "m1", Key: "k=1", Timeout: 7 * time.Second, MaxTokens: 4096},
		{Provider: "openai", Model: "m2", Key: "k2", URL: "http://127.0.0.1:1/v1", Timeout: 7 * time.Second, MaxTokens: 4096},
		{Provider: "offline", Timeout: 7 * time.Second, MaxTokens: 4096},
	}, c.Providers)
	p, err := c.OpenProvider(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, "anthropic,openai,offline", p.Name())

	for want, args := range map[string][]string{
		"needs a key":                   {"--provider", "anthropic"},
		"which --provider":              {"--provider", "openai", "--provider-key", "anthropic=secret-1"},
		"two for openai":                {"--provider", "openai", "--provider-key", "secret-1,secret-2"},
		"named twice":                   {"--provider", "openai,openai", "--provider-key", "secret-1"},
		"has to be the last":            {"--provider", "offline,openai", "--provider-key", "openai=secret-1"},
		"exclude each other":            {"--provider", "openai", "--provider-key", "secret-1", "--provider-key-file", "openai=/dev/null"},
		"open /does/not/exist: no such": {"--provider", "openai", "--provider-key-file", "/does/not/exist"},
	} {
		_, err := with(nil, args...)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret-")
	}
}

func TestUnknownFlagIsMisuse(t *testing.T) {
	t.Parallel()
	code, stderr := worker(t.Context(), nil, "--nope")
	require.Equal(t, boot.ExitMisused, code)
	require.Equal(t, "obs-worker: unknown flag --nope (try --help)\n", stderr.String())
}

// The variable of a flag follows from its name, which messages rely on.
func TestEveryFlagHasItsVariable(t *testing.T) {
	t.Parallel()
	for _, group := range []boot.Settings{
		boot.LogFlags{},
		boot.DatabaseFlags{},
		boot.BrokerFlags{},
		boot.HTTPFlags{},
		boot.JobFlags{},
		boot.LeaseFlags{},
		boot.LaneFlags{},
		boot.ProviderFlags{},
		boot.PriceFlags{},
		boot.EmbedFlags{},
		boot.KeyFlags{},
	} {
		typ := reflect.TypeOf(group)
		for field := range typ.Fields() {
			tag := field.Tag
			if tag.Get("kong") == "-" || field.Anonymous {
				continue // no flag, or a group that is in the list by itself
			}
			require.Equal(t, boot.Variable(tag.Get("name")), tag.Get("var"), "%s.%s", typ.Name(), field.Name)
			require.NotEmpty(t, tag.Get("help"))
		}
	}
}

func TestHelpNamesDefaultsAndVariables(t *testing.T) {
	t.Parallel()
	s, stdout, stderr := std(nil, "--help")
	var cli struct{ boot.RelayFlags }
	command, err := boot.Parse(t.Context(), s, "obs-relay", "about it", boot.DefaultRelayAddr, &cli)
	require.NoError(t, err)
	require.Nil(t, command, "nothing is left to do")
	require.Empty(t, stderr.String())
	for _, want := range []string{"about it", "--lease=TIME", "$OBS_LEASE]", "[30s,", boot.DefaultRelayAddr} {
		require.Contains(t, stdout.String(), want)
	}
}

func TestPolicyOfTheServer(t *testing.T) {
	t.Parallel()
	with := func(env map[string]string, args ...string) (boot.Config, error) {
		return parse(t, env, append([]string{"--database-url", someDatabase, "--nats-url", someNATS}, args...)...)
	}
	for _, name := range observe.Policies() {
		c, err := with(map[string]string{"OBS_POLICY": name})
		require.NoError(t, err)
		require.Equal(t, name, c.Policy)
	}
	c, err := with(nil, "--policy", "end-of-session", "--debounce", "7s")
	require.NoError(t, err)
	require.Equal(t, 7*time.Second, c.Debounce)
	_, err = with(nil, "--policy", "often")
	require.ErrorContains(t, err, "--policy (OBS_POLICY): got \"often\"")
	_, err = with(nil, "--policy", "per-event", "--debounce", "7s")
	require.ErrorContains(t, err, "--debounce (OBS_DEBOUNCE): with --policy per-event nothing waits")
}

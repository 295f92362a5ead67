package boot_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
	"github.com/seed-245eaa15/obs/internal/observe"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	load := func(env map[string]string) (boot.Config, error) {
		s, _, _ := std(env)
		var cli struct{ boot.LimitFlags }
		_, err := boot.Parse(t.Context(), s, "obs", "about", "", &cli)
		require.NoError(t, err)
		return boot.Load(cli.LimitFlags)
	}
	c, err := load(nil)
	require.NoError(t, err)
	require.Zero(t, c.Limits, "none unless asked for")
	c, err = load(map[string]string{
		"OBS_RATE_LIMIT_PER_MIN": "60", "OBS_MONTHLY_REQUEST_CAP": "10", "OBS_MONTHLY_TOKEN_CAP": "20", "OBS_USAGE_METERING": "1",
		"OBS_PUBLIC_URL": "https://obs.example.org",
	})
	require.NoError(t, err)
	require.Equal(t, observe.Limits{PerMinute: 60, MonthlyRequests: 10, MonthlyTokens: 20, Metering: true}, c.Limits)
	require.Equal(t, "https://obs.example.org", c.PublicURL)
	for name, bad := range map[string]string{
		"OBS_RATE_LIMIT_PER_MIN": "-1", "OBS_MONTHLY_REQUEST_CAP": "many", "OBS_MONTHLY_TOKEN_CAP": "1.5", "OBS_USAGE_METERING": "perhaps",
		"OBS_PUBLIC_URL": "obs.example.org",
	} {
		_, err := load(map[string]string{name: bad})
		require.ErrorContains(t, err, name)
	}
}

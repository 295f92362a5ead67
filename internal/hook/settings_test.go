package hook_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/hook"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func TestInstall(t *testing.T) {
	t.Parallel()
	before, err := os.ReadFile(filepath.Join("testdata", "claude.json"))
	require.NoError(t, err)
	after, err := hook.Install(before, hook.All(), "/usr/local/bin/obs")
	require.NoError(t, err)
	golden(t, "claude.installed.json", after)
	golden(t, "claude.diff", []byte(hook.Diff(before, after)))

	again, err := hook.Install(after, hook.All(), "/usr/local/bin/obs")
	require.NoError(t, err)
	require.Equal(t, string(after), string(again))
	require.Empty(t, hook.Diff(after, again))

	moved, err := hook.Install(after, hook.All(), "/home/ann/my tools/it's/obs", "--config", "/etc/obs.json")
	require.NoError(t, err)
	require.NotContains(t, string(moved), "/usr/local/bin/obs")
	require.Contains(t, string(moved), `"'/home/ann/my tools/it'\\''s/obs' hook stop --config /etc/obs.json"`)

	gone, err := hook.Uninstall(after)
	require.NoError(t, err)
	require.Equal(t, string(before), string(gone), "to the byte")
	same, err := hook.Uninstall(gone)
	require.NoError(t, err)
	require.Equal(t, string(gone), string(same))
}

func TestInstallKeepsTheFormOfAnyText(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{
		"object":    "{}\n",
		"minified":  `{"a":1,"hooks":{"Stop":[{"hooks":[{"type":"command","command":"x"}]}]},"b":[1,2]}`,
		"no hooks":  "{\n    \"model\": \"opus\"\n}",
		"tabs":      "{\n\t\"hooks\": {\n\t\t\"Stop\": [\n\t\t\t{\n\t\t\t\t\"hooks\": []\n\t\t\t}\n\t\t]\n\t}\n}\n",
		"elsewhere": "{ \"x\" : { \"hooks\": {\"Stop\": \"obs hook stop\"} } }",
		"odd forms": `{"hooks":{"Stop":"soon","Odd":[1,{"hooks":3},{"hooks":[7,{"command":"obs jobs list"}]}]},"z":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after, err := hook.Install([]byte(before), hook.All(), "/opt/obs")
			if name == "odd forms" {
				require.ErrorIs(t, err, hook.ErrSettings, "a list that is none is not for us to mend")
				return
			}
			require.NoError(t, err)
			require.Equal(t, 5, strings.Count(string(after), "/opt/obs hook "))
			require.True(t, json.Valid(after), "%s", after)
			gone, err := hook.Uninstall(after)
			require.NoError(t, err)
			require.Equal(t, before, string(gone))
		})
	}
	fresh, err := hook.Install(nil, hook.All(), "/opt/obs")
	require.NoError(t, err)
	golden(t, "fresh.json", fresh)
	gone, err := hook.Uninstall(fresh)
	require.NoError(t, err)
	require.Equal(t, "{}\n", string(gone))
}

func TestInstallRefusesWhatIsNoSettings(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"[]", "{", `{"hooks":[]}`, `{"a":1,"a":2}`, "{} {}", "{ // mine\n}", "null", `{"hooks":{"Stop":{}}}`} {
		_, err := hook.Install([]byte(text), hook.All(), "/opt/obs")
		require.ErrorIs(t, err, hook.ErrSettings, text)
	}
}

func TestOnlyOurHooksAreOurs(t *testing.T) {
	t.Parallel()
	for command, ours := range map[string]bool{
		"/usr/bin/obs hook stop": true, "obs hook session-start": true, "'/a b/obs' hook stop": true, `"C:/x/obs.exe" hook stop --config y`: true,
		"obs hook flush": false, "/usr/bin/jobs hook stop": false, "echo obs hook stop": false, "obs hook stop2": false, "obs hooks stop": false,
	} {
		text, err := json.Marshal(map[string]any{"hooks": map[string]any{"Stop": []any{map[string]any{"hooks": []any{map[string]any{"command": command}}}}}})
		require.NoError(t, err)
		gone, err := hook.Uninstall(text)
		require.NoError(t, err)
		require.Equal(t, ours, string(gone) == "{}", command)
	}
}

// FuzzInstall looks for settings that do not come out as they went in.
func FuzzInstall(f *testing.F) {
	for _, name := range []string{"claude.json", "claude.installed.json", "fresh.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(text)
	}
	f.Add([]byte(`{"hooks":{"Stop":[],"PostToolUse" :[{}]}, "x":[{"hooks":1}]}`))
	f.Add([]byte("{\t\"hooks\"\n:\n{\n}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		clean, err := hook.Uninstall(text)
		if err != nil {
			require.ErrorIs(t, err, hook.ErrSettings)
			return
		}
		after, err := hook.Install(text, hook.All(), "/opt/obs")
		if err != nil {
			require.ErrorIs(t, err, hook.ErrSettings)
			return
		}
		require.True(t, json.Valid(after), "%q", after)
		again, err := hook.Install(after, hook.All(), "/opt/obs")
		require.NoError(t, err)
		require.Equal(t, string(after), string(again))
		gone, err := hook.Uninstall(after)
		require.NoError(t, err)
		require.NotContains(t, string(gone), "/opt/obs hook stop\"")
		if !strings.Contains(string(clean), `"hooks"`) && strings.TrimSpace(string(clean)) != "" {
			require.JSONEq(t, string(clean), string(gone))
		}
	})
}

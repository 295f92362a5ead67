// Package secretstest plants secrets: texts that hold one each, made up when a
// test asks for them, so that nobody takes this repository for a leak. None of
// them opens anything. Start with [Planted].
package secretstest

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
)

// Secret is one, and a text it stands in.
type Secret struct {
	Kind  string   // what it is, for people
	Text  string   // as it would be met
	Parts []string // what must be gone from the text
}

const (
	lower       = "abcdefghijklmnopqrstuvwxyz"
	upper       = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	figs        = "0123456789"
	hex         = figs + "abcdef"
	alnum       = lower + upper + figs
	word        = alnum + "_-"
	base32      = upper + "234567"
	base64Bytes = alnum + "+/"
)

type maker struct{ *rand.Rand }

// of gives n bytes of an alphabet, with a figure among them where it has some.
func (r maker) of(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	if n > 4 && strings.ContainsAny(alphabet, figs) {
		at := strings.IndexAny(alphabet, figs)
		b[n/2], b[n/3] = alphabet[at], alphabet[at+3]
	}
	return string(b)
}

func (r maker) uuid() string {
	return r.of(hex, 8) + "-" + r.of(hex, 4) + "-" + r.of(hex, 4) + "-" + r.of(hex, 4) + "-" + r.of(hex, 12)
}

func (r maker) pem(kind string, lines int) (text string, parts []string) {
	for range lines {
		parts = append(parts, r.of(base64Bytes, 64))
	}
	parts = append(parts, r.of(base64Bytes, 38)+"==")
	return "-----BEGIN " + kind + " KEY-----\n" + strings.Join(parts, "\n") + "\n-----END " + kind + " KEY-----", parts
}

// Planted gives the secrets, other ones for each seed.
func Planted(seed uint64) []Secret {
	r := maker{rand.New(rand.NewPCG(seed, 1))}
	var all []Secret
	add := func(kind, format string, secret string) {
		all = append(all, Secret{kind, fmt.Sprintf(format, secret), []string{secret}})
	}
	for _, header := range []string{"Set-Cookie: sid=%s; Path=/; HttpOnly", "curl -H 'Cookie: theme=dark; sid=%s' https://h/", `{"Cookie": "a=1; sid=%s"}`} {
		add("session cookie", header, r.of(alnum, 26))
	}
	// Tokens that are known by their look, wherever they stand.
	for _, t := range []struct{ kind, token string }{
		{"AWS access key", "AKIA" + r.of(base32, 16)},
		{"AWS session key", "ASIA" + r.of(base32, 16)},
		{"GitHub personal token", "gh" + "p_" + r.of(alnum, 36)},
		{"GitHub OAuth token", "gh" + "o_" + r.of(alnum, 36)},
		{"GitHub user token", "gh" + "u_" + r.of(alnum, 36)},
		{"GitHub server token", "gh" + "s_" + r.of(alnum, 36)},
		{"GitHub refresh token", "gh" + "r_" + r.of(alnum, 36)},
		{"GitHub fine-grained token", "github_" + "pat_" + r.of(alnum+"_", 82)},
		{"GitLab token", "gl" + "pat-" + r.of(word, 20)},
		{"GitLab deploy token", "gl" + "dt-" + r.of(word, 20)},
		{"GitLab runner token", "gl" + "rt-" + r.of(word, 20)},
		{"GitLab trigger token", "gl" + "ptt-" + r.of(hex, 40)},
		{"Slack bot token", "xo" + "xb-" + r.of(figs, 12) + "-" + r.of(figs, 12) + "-" + r.of(alnum, 24)},
		{"Slack user token", "xo" + "xp-" + r.of(figs, 12) + "-" + r.of(figs, 12) + "-" + r.of(figs, 12) + "-" + r.of(hex, 32)},
		{"Slack app token", "xa" + "pp-1-A" + r.of(upper+figs, 9) + "-" + r.of(figs, 13) + "-" + r.of(lower+figs, 60)},
		{"Slack webhook", "https://hooks." + "slack.com/services/T" + r.of(upper+figs, 9) + "/B" + r.of(upper+figs, 9) + "/" + r.of(alnum, 24)},
		{"Google API key", "AI" + "za" + r.of(word, 35)},
		{"Stripe live key", "sk_" + "live_" + r.of(alnum, 24)},
		{"Stripe test key", "sk_" + "test_" + r.of(alnum, 24)},
		{"Stripe restricted key", "rk_" + "live_" + r.of(alnum, 30)},
		{"OpenAI key", "sk" + "-" + r.of(alnum, 20) + "T3Blbk" + "FJ" + r.of(alnum, 20)},
		{"OpenAI project key", "sk" + "-proj-" + r.of(word, 48)},
		{"Anthropic key", "sk" + "-ant-api03-" + r.of(word, 93) + "AA"},
		{"Anthropic admin key", "sk" + "-ant-admin01-" + r.of(word, 93) + "AA"},
		{"Hugging Face token", "h" + "f_" + r.of(lower, 34)},
		{"npm token", "np" + "m_" + r.of(lower+figs, 36)},
		{"PyPI token", "pypi-" + "AgEIcHlwaS5vcmc" + r.of(word, 60)},
		{"RubyGems key", "ruby" + "gems_" + r.of(hex, 48)},
		{"DigitalOcean token", "do" + "p_v1_" + r.of(hex, 64)},
		{"SendGrid key", "S" + "G." + r.of(alnum, 22) + "." + r.of(alnum, 43)},
		{"Twilio key", "S" + "K" + r.of(hex, 32)},
		{"Shopify token", "shp" + "at_" + r.of(hex, 32)},
		{"Doppler token", "dp." + "pt." + r.of(alnum, 43)},
		{"Databricks token", "da" + "pi" + r.of(hex, 32)},
		{"Postman key", "PM" + "AK-" + r.of(hex, 24) + "-" + r.of(hex, 34)},
		{"Linear key", "lin_" + "api_" + r.of(alnum, 40)},
		{"Grafana token", "gl" + "sa_" + r.of(alnum, 32) + "_" + r.of(hex, 8)},
		{"Vault token", "hv" + "s." + r.of(word, 95)},
		{"Pulumi token", "pu" + "l-" + r.of(hex, 40)},
		{"PlanetScale password", "pscale_" + "pw_" + r.of(word, 43)},
		{"Terraform Cloud token", r.of(alnum, 14) + ".atlas" + "v1." + r.of(word, 64)},
		{"age key", "AGE-SECRET" + "-KEY-1" + r.of("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)},
		{"obs key", "ob" + "s_" + r.of(alnum, 40)},
		{"NATS seed", "S" + "UA" + r.of(base32, 55)},
		{"NATS account seed", "S" + "AA" + r.of(base32, 55)},
		{"JSON web token", "ey" + "JhbGciOiJIUzI1NiJ9.ey" + "J" + r.of(alnum, 60) + "." + r.of(word, 43)},
		{"unsigned JSON web token", "ey" + "JhbGciOiJub25lIn0.ey" + "J" + r.of(alnum, 30)},
		{"bcrypt hash", "$2" + "b$12$" + r.of(alnum+"/", 53)},
		{"Azure client secret", r.of(alnum, 3) + "7Q" + "~" + r.of(alnum, 34)},
	} {
		add(t.kind, "It said: %s", t.token)
	}
	// Secrets that are known by what stands around them.
	for _, t := range []struct{ kind, format, secret string }{
		{"AWS secret key", "aws_secret_access_key = %s", r.of(base64Bytes, 40)},
		{"password of a DSN", "postgres://obs:%s@db.internal:5432/obs", r.of(alnum, 16)},
		{"password of a DSN with symbols", "redis://:%s@cache:6379/0", r.of(alnum, 9) + "!" + r.of(alnum, 5)},
		{"password in a .env file", "export DB_PASSWORD=%s\n", r.of(alnum, 14)},
		{"password in Go", "cfg := pgx.Config{Password: \"%s\"}", r.of(alnum, 12)},
		{"password in YAML", "database:\n  password: %s\n", r.of(lower, 8) + r.of(figs, 3)},
		{"password in JSON", `{"user":"obs","password":"%s"}`, r.of(alnum, 12)},
		{"password in JSON in JSON", `{\"user\":\"obs\",\"password\":\"%s\"}`, r.of(alnum, 12)},
		{"password as a flag", "mysql --user root --password %s", r.of(alnum, 12)},
		{"password in XML", "<password>%s</password>", r.of(alnum, 12)},
		{"API key in Python", "API_KEY = '%s'", r.of(alnum, 32)},
		{"API key in a header", "curl -H 'X-Api-Key: %s' https://api.example.com", r.of(alnum, 32)},
		{"client secret", "client_secret=%s&grant_type=refresh", r.of(word, 30)},
		{"Azure account key", "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=%s;", r.of(base64Bytes, 86) + "=="},
		{"Azure signature", "https://x.blob.core.windows.net/c?sv=2024&sig=%s", r.of(alnum, 43) + "%%3D"},
		{"bearer token", "Authorization: Bearer %s", r.of(word, 32)},
		{"basic authorization", "Authorization: Basic %s", base64.StdEncoding.EncodeToString([]byte("admin:" + r.of(alnum, 11)))},
		{"curl's user", "curl -s -u admin:%s https://x.example/", r.of(alnum, 10)},
		{"netrc", "machine x.example login obs password %s", r.of(alnum, 10)},
		{"Heroku key", "HEROKU_API_KEY=%s", r.uuid()},
		{"Mailchimp key", "MAILCHIMP_API_KEY='%s'", r.of(hex, 32) + "-us12"},
		{"Datadog key", "datadog_api_token: \"%s\"", r.of(lower+figs, 40)},
		{"Telegram token", "telegram_bot = \"%s\"", r.of(figs, 9) + ":A" + r.of(word, 34)},
		{"Kubernetes secret", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ndata:\n  db-pass: %s\n", base64.StdEncoding.EncodeToString([]byte(r.of(alnum, 19)))},
		{"session token", `"sessionToken": "%s"`, r.of(base64Bytes, 180)},
		{"signing key", "SIGNING_KEY=%s", r.of(hex, 64)},
		{"Cloudflare key", "cloudflare_api_key = \"%s\"", r.of(hex, 37)},
	} {
		all = append(all, Secret{t.kind, fmt.Sprintf(t.format, strings.ReplaceAll(t.secret, "%%", "%")), []string{strings.ReplaceAll(t.secret, "%%", "%")}})
	}
	for _, kind := range []string{"RSA PRIVATE", "EC PRIVATE", "OPENSSH PRIVATE", "PRIVATE", "ENCRYPTED PRIVATE"} {
		text, parts := r.pem(kind, 5)
		all = append(all, Secret{kind + " key", text, parts})
	}
	half := r.of(base64Bytes, 40)
	all = append(all, Secret{"AWS keys, the second without a name", "AKIA" + r.of(base32, 16) + " and " + half, []string{half}})
	for kind, text := range map[string]string{
		"a .env file":   "# café\nDB_PASSWORD=" + r.of(alnum, 14) + "\n",
		"JSON":          `{"user":"obs","password":"` + r.of(alnum, 12) + `"}`,
		"a token":       "token: gh" + "p_" + r.of(alnum, 36),
		"base64 of it":  base64.StdEncoding.EncodeToString([]byte("aws_secret_access_key=" + r.of(base64Bytes, 40))),
		"a private key": "-----BEGIN EC PRIVATE KEY-----\n" + r.of(base64Bytes, 64) + "\n-----END EC PRIVATE KEY-----",
	} {
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.StdEncoding, "base64 for URLs": base64.RawURLEncoding} {
			encoded := encoding.EncodeToString([]byte(text))
			all = append(all, Secret{name + " of " + kind, "decode " + encoded + " first", []string{encoded}})
		}
	}
	text, parts := r.pem("RSA PRIVATE", 4)
	all = append(all,
		Secret{"private key without its end", text[:strings.Index(text, parts[3])+20], []string{parts[0], parts[1], parts[2], parts[3][:20]}},
		Secret{"private key in one line", strings.ReplaceAll(text, "\n", `\n`), parts},
		Secret{"lines of a private key", "-\n" + parts[0] + "\n" + parts[1] + "\n", parts[:2]},
	)
	return all
}

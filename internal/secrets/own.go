package secrets

import "strings"

// Kinds that are not gitleaks'.
const (
	kindPassword   = "password"
	kindSecret     = "secret"
	kindToken      = "token"
	kindKey        = "api-key"
	kindCredential = "credential"
	kindURL        = "url-password"
	kindHeader     = "authorization-header"
	kindBlock      = "base64-block"
	kindJWT        = "jwt"
)

// ownRule is one of ours: where gitleaks has none, or wants more of a token's
// length and last bytes than a text that was cut somewhere still has.
type ownRule struct {
	kind     string
	keywords []string
	expr     string
	wide     bool
	sure     func(secret string) bool
	far      bool // looks on to the text's end
}

var ownRules = []ownRule{
	// To its end, or to the end of the text: half a key is too much.
	{"private-key", []string{"-----begin"}, `(?i)-----BEGIN[ A-Z0-9_-]{0,100}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END[ A-Z0-9_-]{0,100}PRIVATE KEY(?: BLOCK)?-----|\z)`, true, nil, true},
	{"aws-access-token", []string{"akia", "asia"}, `(?:AKIA|ASIA)[0-9A-Z]{12,}`, false, nil, false},
	// The other half is only known by the first.
	{"aws-secret-access-key", []string{"akia", "asia"}, `(?s)(?:AKIA|ASIA)[0-9A-Z]{12,}[^0-9A-Za-z+/].{0,120}?(?:^|[^0-9A-Za-z+/])([0-9A-Za-z+/]{40})(?:[^0-9A-Za-z+/]|$)`, true, mixed, false},
	{"github-pat", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, `(?:gh[pousr]|github_pat)_[A-Za-z0-9_]{8,}`, false, digits, false},
	{"gitlab-pat", []string{"glpat-"}, `glpat-[A-Za-z0-9_-]{8,}`, false, nil, false},
	{"slack-bot-token", []string{"xox"}, `xox[abeoprs]-[A-Za-z0-9-]{8,}`, false, digits, false},
	{"gcp-api-key", []string{"aiza"}, `AIza[A-Za-z0-9_-]{20,}`, false, nil, false},
	{"stripe-access-token", []string{"sk_live_", "rk_live_", "sk_test_", "rk_test_"}, `\b[sr]k_(?:live|test)_[A-Za-z0-9_-]{8,}`, false, digits, false},
	{"openai-api-key", []string{"sk-"}, `\bsk-[A-Za-z0-9_-]{13,}`, false, digits, false},
	{"anthropic-api-key", []string{"sk-ant-"}, `\bsk-ant-[A-Za-z0-9_-]{13,}`, false, digits, false},
	{"obs-key", []string{"obs_", "cmem_"}, `\b(?:obs|cmem)_[A-Za-z0-9_-]{24,}`, false, digits, false},
	{kindJWT, []string{"eyj"}, `eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?`, false, nil, false},
	{kindURL, []string{"://"}, `://[^\s:/@"'` + "`" + `]*:([^\s/@"'` + "`" + `]+)@`, false, func(s string) bool { return !strings.ContainsAny(s[:1], "$<{%") }, false},
	{kindHeader, []string{"bearer "}, `(?i)\bbearer\s+([A-Za-z0-9._~+/-]{12,}=*)`, true, digits, false},
	{kindHeader, []string{"basic "}, `(?i)\bbasic\s+([A-Za-z0-9+/]{10,}={0,2})`, true, func(s string) bool { return mixed(s) || strings.HasSuffix(s, "=") }, false},
	{"cookie", []string{"cookie"}, `(?i)\b(?:set-)?cookie["']?\s*[:,]\s*["']?([^\r\n"']{8,})`, true, func(s string) bool { return strings.Contains(s, "=") && digits(s) }, true},
	{kindPassword, []string{"curl"}, `(?i)\bcurl\b[^\n]*?\s(?:-u|--user)[ =]?["']?[^\s:"']+:([^\s"']{3,})`, true, func(s string) bool { return s[0] != '$' }, true},
	{kindPassword, []string{"machine "}, `(?i)machine\s+\S+\s+login\s+\S+\s+password\s+(\S+)`, true, nil, false},
	{"azure-sas-signature", []string{"sig="}, `[?&]sig=([A-Za-z0-9%+/=]{32,})`, false, nil, false},
	{"password-hash", []string{"$2a$", "$2b$", "$2y$", "$6$", "$argon2"}, `\$(?:2[aby]\$\d\d\$[./A-Za-z0-9]{53}|6\$[^\s:"']{40,}|argon2[^\s:"']{40,})`, false, nil, false},
	{"kubernetes-secret", []string{"kind: secret"}, `(?m)^[+-]?[ \t]+[\w.-]+:[ \t]*["']?([A-Za-z0-9+/]{8,}={0,2})["']?[ \t]*$`, true, func(s string) bool {
		return len(s)%4 == 0 && (mixed(s) || strings.HasSuffix(s, "="))
	}, true},
}

func digits(s string) bool { return strings.ContainsAny(s, "0123456789") }

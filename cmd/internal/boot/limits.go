package boot

import (
	"net/url"
	"strconv"
)

// LimitFlags say what keys and teams are held to. Whoever serves reads them
// all; a worker, which counts what jobs use, the caps and the metering.
type LimitFlags struct {
	RateLimit  string `name:"rate-limit-per-min" var:"OBS_RATE_LIMIT_PER_MIN" default:"0" placeholder:"N" group:"Limits:" help:"Requests of one key in a minute; 0 means any number."`
	RequestCap string `name:"monthly-request-cap" var:"OBS_MONTHLY_REQUEST_CAP" default:"0" placeholder:"N" group:"Limits:" help:"Requests of one team in a month; 0 means any number."`
	TokenCap   string `name:"monthly-token-cap" var:"OBS_MONTHLY_TOKEN_CAP" default:"0" placeholder:"N" group:"Limits:" help:"The provider's tokens of one team in a month, if it has no budget of its own: then what writes is refused, and its jobs wait; 0 means any number. The same for servers and workers."`
	CostCap    string `name:"monthly-cost-cap" var:"OBS_MONTHLY_COST_CAP" default:"0" placeholder:"USD" group:"Limits:" help:"What the provider may cost for one team in a month, by the price table, if it has no budget of its own: then its jobs wait; 0 means any amount. The same for servers and workers."`
	Metering   string `name:"usage-metering" var:"OBS_USAGE_METERING" default:"false" placeholder:"BOOL" group:"Limits:" help:"Count what teams use, also without a cap: true or false. The same for servers and workers."`
	InFlight   string `name:"max-in-flight" var:"OBS_MAX_IN_FLIGHT" default:"0" placeholder:"N" group:"Limits:" help:"Requests that are worked on at once, where one with one event counts as a quarter; four times as many wait up to 1s for their turn, further ones are told to come back. 0 means four for each connection to Postgres."`
	BodyBytes  string `name:"max-body-bytes-in-flight" var:"OBS_MAX_BODY_BYTES_IN_FLIGHT" default:"64MiB" placeholder:"SIZE" group:"Limits:" help:"The bodies of all these requests together."`
	FailedKeys string `name:"failed-keys-per-min" var:"OBS_FAILED_KEYS_PER_MIN" default:"100" placeholder:"N" group:"Limits:" help:"Invalid keys of one client address in a minute, before it has to wait; 0 means any number."`
	PublicURL  string `name:"public-url" var:"OBS_PUBLIC_URL" placeholder:"URL" group:"HTTP:" help:"Where clients reach the API, if not where they happen to call it."`
}

func (f LimitFlags) read(r *reader, c *Config) {
	c.Limits.PerMinute = r.integer("rate-limit-per-min", f.RateLimit, 0, 1_000_000_000)
	c.Limits.MonthlyRequests = int64(r.integer("monthly-request-cap", f.RequestCap, 0, 2_000_000_000))
	c.Limits.MonthlyTokens = int64(r.integer("monthly-token-cap", f.TokenCap, 0, 2_000_000_000))
	c.Limits.MonthlyCost = r.dollars("monthly-cost-cap", f.CostCap)
	c.Admission.Requests = r.integer("max-in-flight", f.InFlight, 0, 100_000)
	c.Admission.Bytes = r.size("max-body-bytes-in-flight", f.BodyBytes, 1<<20)
	if c.FailedKeys = r.integer("failed-keys-per-min", f.FailedKeys, 0, 1_000_000); c.FailedKeys == 0 {
		c.FailedKeys = -1
	}
	metering, err := strconv.ParseBool(f.Metering)
	if err != nil {
		r.bad("usage-metering", f.Metering, "true or false")
	}
	c.Limits.Metering = metering
	if f.PublicURL == "" {
		return
	}
	u, err := url.Parse(f.PublicURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		r.bad("public-url", f.PublicURL, "a URL such as https://obs.example.org")
	}
	c.PublicURL = f.PublicURL
}

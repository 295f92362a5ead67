package boot

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/api"
	"github.com/seed-245eaa15/obs/events"
	"github.com/seed-245eaa15/obs/internal/llm"
	"github.com/seed-245eaa15/obs/internal/observe"
	"github.com/seed-245eaa15/obs/outbox"
	"github.com/seed-245eaa15/obs/pipeline"
)

// Config is what the flags and variables come to. [Load] makes it; the flags'
// help names the defaults.
type Config struct {
	LogLevel slog.Level
	LogJSON  bool

	DatabaseURL    string        // empty: obs dev starts its own
	PoolSize       int32         // connections
	ConnectTimeout time.Duration // at the start, for Postgres and for NATS

	NATSURL   string // one or more with commas; empty: obs dev starts its own
	NATSCreds string // a file, like the three below; empty: none
	NATSCA    string
	NATSCert  string
	NATSKey   string
	Streams   outbox.Streams

	Addr string // host:port; empty: the process does not listen

	Policy      string        // see observe.Config
	Debounce    time.Duration // as well
	MaxAttempts int
	Lease       time.Duration

	Peppers    observe.Peppers
	Limits     observe.Limits
	Admission  api.Admission
	FailedKeys int    // see api.Config
	PublicURL  string // empty: what clients call

	Lanes      map[events.Kind]pipeline.Lane
	Breaker    pipeline.Breaker
	Grace      time.Duration
	WorkerName string // empty: the host's name

	Providers []llm.Config // in the order in which they are asked
	Prices    llm.Prices
	Near      observe.Near         // who makes vectors
	Modes     map[string]*llm.Mode // that projects may have
}

// Load reads the flags of all groups. The error is a [*Misuse] with all that
// is wrong with them.
func Load(groups ...Settings) (Config, error) {
	c := Config{Streams: outbox.Streams{Kinds: observe.Kinds()}}
	r := &reader{}
	for _, g := range groups {
		g.read(r, &c)
	}
	return c, joined(r.problems)
}

// LoadOptional is Load for obs dev and obs demo, which start a Postgres and a
// NATS of their own where no URL is given.
func LoadOptional(groups ...Settings) (Config, error) {
	c := Config{Streams: outbox.Streams{Kinds: observe.Kinds()}}
	r := &reader{optional: true}
	for _, g := range groups {
		g.read(r, &c)
	}
	return c, joined(r.problems)
}

func (f LogFlags) read(r *reader, c *Config) {
	if err := c.LogLevel.UnmarshalText([]byte(f.LogLevel)); err != nil {
		r.bad("log-level", f.LogLevel, "debug, info, warn or error")
	}
	r.oneOf("log-format", f.LogFormat, "text", "json")
	c.LogJSON = f.LogFormat == "json"
}

func (f DatabaseFlags) read(r *reader, c *Config) {
	c.DatabaseURL = f.DatabaseURL
	c.PoolSize = int32(r.integer("pool-size", f.PoolSize, 2, 10_000))
	c.ConnectTimeout = r.duration("connect-timeout", f.ConnectTimeout, 100*time.Millisecond)
	switch {
	case f.DatabaseURL == "" && !r.optional:
		r.missing("database-url", "such as postgres://user:password@host:5432/obs")
	case f.DatabaseURL != "":
		// The value may hold a password and is not repeated.
		if _, err := pgxpool.ParseConfig(f.DatabaseURL); err != nil {
			r.add("database-url", "it is no URL of a database such as postgres://user:password@host:5432/obs")
		}
	}
}

func (f BrokerFlags) read(r *reader, c *Config) {
	c.NATSURL, c.NATSCreds, c.NATSCA, c.NATSCert, c.NATSKey = f.NATSURL, f.NATSCreds, f.NATSCA, f.NATSCert, f.NATSKey
	switch {
	case f.NATSURL == "" && !r.optional:
		r.missing("nats-url", "such as nats://host:4222")
	case f.NATSURL != "":
		for one := range strings.SplitSeq(f.NATSURL, ",") {
			u, err := url.Parse(strings.TrimSpace(one))
			if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
				r.add("nats-url", "it is no URL of a NATS server such as nats://host:4222")
				break
			}
		}
	}
	r.file("nats-creds", f.NATSCreds)
	r.file("nats-ca", f.NATSCA)
	r.file("nats-cert", f.NATSCert)
	r.file("nats-key", f.NATSKey)
	if (f.NATSCert == "") != (f.NATSKey == "") {
		r.add("nats-cert", "it and --nats-key (OBS_NATS_KEY) go together")
	}
	if f.NATSPrefix != "" && events.Token(f.NATSPrefix) != f.NATSPrefix {
		r.bad("nats-prefix", f.NATSPrefix, "letters, digits, '_' and '-'")
	}
	r.oneOf("nats-replicas", f.NATSReplicas, "1", "3", "5")
	r.oneOf("nats-storage", f.NATSStorage, "file", "memory")
	s := &c.Streams
	s.Prefix = f.NATSPrefix
	s.Replicas, _ = strconv.Atoi(f.NATSReplicas) // checked above
	if f.NATSStorage == "memory" {
		s.Storage = jetstream.MemoryStorage
	}
	s.JobsMaxMsgs = int64(r.integer("jobs-max-msgs", f.JobsMaxMsgs, 100, 1<<31))
	s.EventsMaxAge = r.duration("events-max-age", f.EventsMaxAge, time.Minute)
	s.EventsMaxBytes = r.size("events-max-bytes", f.EventsMaxSize, 1<<20)
}

func (f HTTPFlags) read(r *reader, c *Config) {
	if f.Addr == "" || f.Addr == "off" {
		return
	}
	c.Addr = f.Addr
	_, port, err := net.SplitHostPort(f.Addr)
	if n, e := strconv.Atoi(port); err != nil || e != nil || n < 0 || n > 65535 {
		r.bad("addr", f.Addr, "host:port such as 127.0.0.1:37877, or off")
	}
}

func (f KeyFlags) read(r *reader, c *Config) {
	if f.Pepper != "" && f.PepperFile != "" {
		r.add("key-pepper", "it and --key-pepper-file (OBS_KEY_PEPPER_FILE) exclude each other")
		return
	}
	flag, text := "key-pepper", f.Pepper
	if f.PepperFile != "" {
		flag = "key-pepper-file"
		b, err := os.ReadFile(f.PepperFile)
		if err != nil {
			r.add(flag, err.Error())
			return
		}
		text = string(b)
	}
	if f.Pepper == "" && f.PepperFile == "" {
		return
	}
	var err error
	if c.Peppers, err = observe.ParsePeppers(text); err != nil {
		r.add(flag, err.Error())
	}
}

func (f JobFlags) read(r *reader, c *Config) {
	c.Debounce = r.duration("debounce", f.Debounce, 0)
	if c.Policy = f.Policy; c.Policy != "" {
		r.oneOf("policy", c.Policy, observe.Policies()...)
	}
	if c.Policy == observe.PolicyPerEvent && c.Debounce > 0 {
		r.add("debounce", "with --policy per-event nothing waits")
	}
	c.MaxAttempts = r.integer("max-attempts", f.MaxAttempts, 1, 100)
}

func (f LeaseFlags) read(r *reader, c *Config) {
	c.Lease = r.duration("lease", f.Lease, time.Second)
}

func (f LaneFlags) read(r *reader, c *Config) {
	c.Grace = r.duration("grace", f.Grace, 100*time.Millisecond)
	c.WorkerName = f.WorkerName
	pause := r.duration("lane-pause", f.Pause, time.Millisecond)
	c.Breaker = pipeline.Breaker{Pause: pause, Longest: 60 * pause}
	timeout := r.duration("job-timeout", f.Timeout, time.Second)
	c.Lanes = make(map[events.Kind]pipeline.Lane)
	for _, k := range observe.Kinds() {
		c.Lanes[k] = pipeline.Lane{Timeout: timeout}
	}
	for one := range strings.SplitSeq(f.Slots, ",") {
		if strings.TrimSpace(one) == "" {
			continue
		}
		kind, count, _ := strings.Cut(one, "=")
		k := events.Kind(strings.TrimSpace(kind))
		n, err := strconv.Atoi(strings.TrimSpace(count))
		switch {
		case !slices.Contains(observe.Kinds(), k):
			r.add("slots", fmt.Sprintf("%q is no kind of job; there are %v", k, observe.Kinds()))
		case err != nil || n < 0 || n > 10_000:
			r.bad("slots", one, "kind=number, the number from 0 to 10000")
		case n == 0:
			c.Lanes[k] = pipeline.Lane{Slots: -1}
		default:
			c.Lanes[k] = pipeline.Lane{Slots: n, Timeout: timeout}
		}
	}
}

func (f PromptFlags) read(r *reader, c *Config) {
	var dir fs.FS
	if f.Prompts != "" {
		dir = os.DirFS(f.Prompts)
	}
	var err error
	if c.Modes, err = llm.Modes(dir); err != nil {
		r.add("prompts", err.Error())
	}
}

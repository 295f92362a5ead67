package boot

// Settings is a group of flags. They are all strings, so that [Load] and not
// the parser reads them, and can tell everything that is wrong at once. The
// variable of a flag is its name in capitals behind OBS_.
type Settings interface {
	read(r *reader, c *Config)
}

// LogFlags say what the log has.
type LogFlags struct {
	LogLevel  string `name:"log-level" var:"OBS_LOG_LEVEL" default:"info" placeholder:"LEVEL" group:"Log:" help:"Least level that is logged: debug, info, warn or error."`
	LogFormat string `name:"log-format" var:"OBS_LOG_FORMAT" default:"text" placeholder:"FORMAT" group:"Log:" help:"text or json."`
}

// DatabaseFlags say where Postgres is.
type DatabaseFlags struct {
	DatabaseURL    string `name:"database-url" var:"OBS_DATABASE_URL" placeholder:"URL" group:"Postgres:" help:"postgres://user:password@host:5432/database."`
	PoolSize       string `name:"pool-size" var:"OBS_POOL_SIZE" default:"10" placeholder:"N" group:"Postgres:" help:"Connections to Postgres, at most."`
	ConnectTimeout string `name:"connect-timeout" var:"OBS_CONNECT_TIMEOUT" default:"10s" placeholder:"TIME" group:"Postgres:" help:"How long to try at the start, Postgres and NATS each, before giving up."`
}

// BrokerFlags say where NATS is and how the streams are made.
type BrokerFlags struct {
	NATSURL       string `name:"nats-url" var:"OBS_NATS_URL" placeholder:"URL" group:"NATS:" help:"nats://host:4222, several with commas."`
	NATSCreds     string `name:"nats-creds" var:"OBS_NATS_CREDS" placeholder:"FILE" group:"NATS:" help:"Credentials file."`
	NATSCA        string `name:"nats-ca" var:"OBS_NATS_CA" placeholder:"FILE" group:"NATS:" help:"Certificate of the authority that signed the servers'."`
	NATSCert      string `name:"nats-cert" var:"OBS_NATS_CERT" placeholder:"FILE" group:"NATS:" help:"Our certificate."`
	NATSKey       string `name:"nats-key" var:"OBS_NATS_KEY" placeholder:"FILE" group:"NATS:" help:"Its key."`
	NATSPrefix    string `name:"nats-prefix" var:"OBS_NATS_PREFIX" placeholder:"WORD" group:"NATS:" help:"Before the streams' names and subjects, where several obs share a NATS."`
	NATSReplicas  string `name:"nats-replicas" var:"OBS_NATS_REPLICAS" default:"1" placeholder:"N" group:"NATS:" help:"Copies of the streams: 1, 3 or 5."`
	NATSStorage   string `name:"nats-storage" var:"OBS_NATS_STORAGE" default:"file" placeholder:"KIND" group:"NATS:" help:"file or memory."`
	JobsMaxMsgs   string `name:"jobs-max-msgs" var:"OBS_JOBS_MAX_MSGS" default:"100000" placeholder:"N" group:"NATS:" help:"Messages on the stream of jobs."`
	EventsMaxAge  string `name:"events-max-age" var:"OBS_EVENTS_MAX_AGE" default:"168h" placeholder:"TIME" group:"NATS:" help:"How long the stream of events keeps one."`
	EventsMaxSize string `name:"events-max-bytes" var:"OBS_EVENTS_MAX_BYTES" default:"1GiB" placeholder:"SIZE" group:"NATS:" help:"The size of the stream of events."`
}

// HTTPFlags say where the process listens.
type HTTPFlags struct {
	Addr string `name:"addr" var:"OBS_ADDR" default:"${addr}" placeholder:"HOST:PORT" group:"HTTP:" help:"Where to listen; off means nowhere, port 0 takes a free one."`
}

// KeyFlags say what API keys are hashed with.
type KeyFlags struct {
	Pepper     string `name:"key-pepper" var:"OBS_KEY_PEPPER" placeholder:"SECRET" group:"Keys:" help:"The server's secret that API keys are hashed with; behind commas older ones that are still accepted. Better in the variable or a file: others can read a command line. The same for all servers."`
	PepperFile string `name:"key-pepper-file" var:"OBS_KEY_PEPPER_FILE" placeholder:"FILE" group:"Keys:" help:"The file that holds it, and older ones on lines of their own."`
}

// JobFlags say how jobs are made and leased.
type JobFlags struct {
	Policy      string `name:"policy" var:"OBS_POLICY" placeholder:"NAME" group:"Jobs:" help:"When sessions are asked about, in projects that do not say: per-event, debounce or end-of-session. Without it debounce where there is a --debounce, else per-event."`
	Debounce    string `name:"debounce" var:"OBS_DEBOUNCE" default:"0s" placeholder:"TIME" group:"Jobs:" help:"How long events of a session wait for others to share one job with, and what follows a session's end; 0 means 5s, where the policy has them wait."`
	MaxAttempts string `name:"max-attempts" var:"OBS_MAX_ATTEMPTS" default:"3" placeholder:"N" group:"Jobs:" help:"Attempts of a job before it has failed."`
}

// LeaseFlags are for whoever holds jobs or takes them back.
type LeaseFlags struct {
	Lease string `name:"lease" var:"OBS_LEASE" default:"30s" placeholder:"TIME" group:"Jobs:" help:"A worker that was not seen for so long has lost its jobs. The same for all processes."`
}

// LaneFlags say how jobs are done.
type LaneFlags struct {
	Slots      string `name:"slots" var:"OBS_SLOTS" placeholder:"KIND=N,…" group:"Worker:" help:"Attempts at once by kind of job: event=4,summary=1. Without it what suits the provider: event=500,batch=50,summary=10,reindex=1 offline, event=4,batch=2,summary=2,reindex=1 with a model; 0 leaves a kind to others."`
	Grace      string `name:"grace" var:"OBS_GRACE" default:"${grace}" placeholder:"TIME" group:"Worker:" help:"How long running attempts may go on when the process is told to end."`
	Timeout    string `name:"job-timeout" var:"OBS_JOB_TIMEOUT" default:"5m" placeholder:"TIME" group:"Worker:" help:"How long an attempt may take."`
	Pause      string `name:"lane-pause" var:"OBS_LANE_PAUSE" default:"5s" placeholder:"TIME" group:"Worker:" help:"How long a lane rests when the provider refused five times in a row; each further rest is twice as long, up to 60 times. No attempt is lost meanwhile."`
	WorkerName string `name:"worker-name" var:"OBS_WORKER_NAME" placeholder:"WORD" group:"Worker:" help:"In place of the host's name in the worker's id."`
}

// PromptFlags say in which words a model is asked.
type PromptFlags struct {
	Prompts string `name:"prompts" var:"OBS_PROMPTS" placeholder:"DIR" group:"Provider:" help:"A folder of modes: a folder each, with mode.json, system.md, observe.md and summary.md. A folder named code changes obs' own mode, and needs only the files that differ. The same for servers and workers."`
}

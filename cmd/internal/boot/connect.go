package boot

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/outbox"
)

// Links are a process's connections. After the start they mend themselves.
type Links struct {
	Pool *pgxpool.Pool
	NATS *nats.Conn
	JS   jetstream.JetStream

	// Schema is the version of the database's schema, when the links were made.
	Schema int64

	lost chan error // why NATS closed the connection for good
}

// Connect opens both connections, brings the schema up to date and makes the
// streams. What does not answer within c.ConnectTimeout is an error that says
// where it was looked for and what to do. dial connects to NATS; nil means
// nats.Connect. The caller closes the links.
func Connect(ctx context.Context, c Config, name string, log *slog.Logger, dial Dial) (*Links, error) {
	if dial == nil {
		dial = nats.Connect
	}
	l := &Links{lost: make(chan error, 1)}
	if err := l.connect(ctx, c, name, log, dial); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Dial makes a connection to NATS.
type Dial = func(url string, opts ...nats.Option) (*nats.Conn, error)

func (l *Links) connect(ctx context.Context, c Config, name string, log *slog.Logger, dial Dial) error {
	var err error
	if l.Pool, err = OpenDatabase(ctx, c, name); err != nil {
		return err
	}
	if err := l.dial(ctx, c, name, log, dial); err != nil {
		return err
	}
	return l.ready(ctx, c)
}

func (l *Links) dial(ctx context.Context, c Config, name string, log *slog.Logger, dial Dial) error {
	opts := c.natsOptions(name, log, l.lost)
	var err error
	l.NATS, err = patiently(ctx, c.ConnectTimeout, worthWaitingNATS, func(context.Context) (*nats.Conn, error) {
		return dial(c.NATSURL, opts...)
	})
	if err != nil {
		return fmt.Errorf("NATS at %s: %s; start it, or set --nats-url (OBS_NATS_URL)", natsHosts(c.NATSURL), causeNATS(err))
	}
	if l.JS, err = jetstream.New(l.NATS); err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	return nil
}

// ConnectNATS connects to NATS alone and makes nothing there. The caller
// closes the links.
func ConnectNATS(ctx context.Context, c Config, name string) (*Links, error) {
	l := &Links{lost: make(chan error, 1)}
	if err := l.dial(ctx, c, name, slog.New(slog.DiscardHandler), nats.Connect); err != nil {
		return nil, err
	}
	return l, nil
}

// ready makes what the process needs on both sides.
func (l *Links) ready(ctx context.Context, c Config) error {
	if err := db.Migrate(ctx, l.Pool); err != nil {
		return err
	}
	var err error
	if l.Schema, err = db.Version(ctx, l.Pool); err != nil {
		return err
	}
	ensuring, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
	defer cancel()
	err = outbox.Ensure(ensuring, l.JS, c.Streams)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("NATS at %s has no JetStream; start it with -js, or set --nats-url (OBS_NATS_URL)", natsHosts(c.NATSURL))
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return fmt.Errorf("JetStream of NATS at %s does not answer within %v; look whether its cluster has a leader", natsHosts(c.NATSURL), c.ConnectTimeout)
	}
	return err
}

// Watch waits until NATS has closed the connection for good, which it does on
// errors that trying again does not mend. It is a part of a [Stages].
func (l *Links) Watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-l.lost:
		return err
	}
}

// Close closes what is open.
func (l *Links) Close() {
	if l.NATS != nil {
		l.NATS.Close()
	}
	if l.Pool != nil {
		l.Pool.Close()
	}
}

// OpenDatabase connects to Postgres alone.
func OpenDatabase(ctx context.Context, c Config, name string) (*pgxpool.Pool, error) {
	pool, err := patiently(ctx, c.ConnectTimeout, worthWaitingPostgres, func(ctx context.Context) (*pgxpool.Pool, error) {
		return db.Open(ctx, db.Config{URL: c.DatabaseURL, MaxConns: c.PoolSize, Timeout: c.ConnectTimeout, Name: name})
	})
	if err != nil {
		what := "start it"
		if _, answers := errors.AsType[*pgconn.PgError](err); answers {
			what = "mend that"
		}
		return nil, fmt.Errorf("Postgres at %s: %s; %s, or set --database-url (OBS_DATABASE_URL)", databaseHost(c.DatabaseURL), causePostgres(err), what) //nolint:staticcheck // a name
	}
	return pool, nil
}

// patiently tries until limit, for two services are often started together.
func patiently[T any](ctx context.Context, limit time.Duration, worthWaiting func(error) bool, try func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errNoAnswer)
	defer cancel()
	var last error
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		got, err := try(ctx)
		if err == nil {
			return got, nil
		}
		if last == nil || ctx.Err() == nil {
			last = err // once the time is up, err only says so
		}
		if ctx.Err() == nil && !worthWaiting(err) {
			return got, last
		}
		select {
		case <-ctx.Done():
			return got, last
		case <-time.After(wait):
		}
	}
}

var errNoAnswer = errors.New("no answer in time")

func worthWaitingPostgres(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "57P03" || pg.Code == "53300" // starting up; too many connections
	}
	return unreachable(err)
}

func worthWaitingNATS(err error) bool { return errors.Is(err, nats.ErrNoServers) || unreachable(err) }

func unreachable(err error) bool {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return false
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, nats.ErrTimeout)
}

func causePostgres(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Message
	}
	return cause(err)
}

func causeNATS(err error) string {
	if errors.Is(err, nats.ErrNoServers) {
		return "no answer"
	}
	return strings.TrimPrefix(cause(err), "nats: ")
}

// cause is the innermost of a network error: the layers above repeat the
// address, and with it whatever else stands in the URL.
func cause(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return "no such host " + dns.Name
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err.Error()
}

// databaseHost is where a database URL leads to, without its secrets.
func databaseHost(dsn string) string {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return "an unreadable URL"
	}
	if strings.HasPrefix(c.ConnConfig.Host, "/") {
		return "the socket in " + c.ConnConfig.Host
	}
	return net.JoinHostPort(c.ConnConfig.Host, strconv.Itoa(int(c.ConnConfig.Port)))
}

// natsHosts is where NATS URLs lead to, without their secrets.
func natsHosts(urls string) string {
	if urls == "" {
		return "this process"
	}
	var hosts []string
	for one := range strings.SplitSeq(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		switch {
		case err != nil:
			hosts = append(hosts, "an unreadable URL")
		case u.Port() == "":
			hosts = append(hosts, net.JoinHostPort(u.Hostname(), "4222"))
		default:
			hosts = append(hosts, u.Host)
		}
	}
	return strings.Join(hosts, ", ")
}

func (c Config) natsOptions(name string, log *slog.Logger, lost chan<- error) []nats.Option {
	opts := []nats.Option{
		nats.Name(name),
		nats.Timeout(min(c.ConnectTimeout, 5*time.Second)),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 500*time.Millisecond),
		nats.ReconnectBufSize(-1), // a publish that failed must not appear later
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("nats is away", "err", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("nats is back", "server", nc.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("nats reports an error", "err", err, "subject", subject)
		}),
		// It is called for our own Close as well: then nobody reads the answer.
		nats.ClosedHandler(func(nc *nats.Conn) {
			err := nc.LastError()
			if err == nil {
				err = nats.ErrConnectionClosed
			}
			select {
			case lost <- fmt.Errorf("NATS closed the connection for good: %w", err):
			default:
			}
		}),
	}
	if c.NATSCreds != "" {
		opts = append(opts, nats.UserCredentials(c.NATSCreds))
	}
	if c.NATSCA != "" {
		opts = append(opts, nats.RootCAs(c.NATSCA))
	}
	if c.NATSCert != "" {
		opts = append(opts, nats.ClientCert(c.NATSCert, c.NATSKey))
	}
	return opts
}

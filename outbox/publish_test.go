package outbox

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/seed-245eaa15/obs/internal/testenv"
)

// A message that the stream knew as its last one does not vouch for those that
// were to come before it.
func TestAChainVouchesForWhatItStored(t *testing.T) {
	t.Parallel()
	js, err := jetstream.New(testenv.NATS(t))
	require.NoError(t, err)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "S", Subjects: []string{"s"}, Storage: jetstream.MemoryStorage, MaxMsgSize: 1000,
	})
	require.NoError(t, err)
	msg := func(id string, size int) *nats.Msg {
		return &nats.Msg{Subject: "s", Data: make([]byte, size), Header: nats.Header{jetstream.MsgIDHeader: {id}}}
	}
	_, err = js.PublishMsg(t.Context(), msg("known", 10))
	require.NoError(t, err)
	p := newPublisher(js, Async, 1, time.Minute)
	acks := p.publish(t.Context(), []*nats.Msg{msg("refused", 2000), msg("known", 10), msg("new", 10)})
	require.True(t, isRefused(acks[0].err), "%+v", acks[0])
	require.Equal(t, ack{seq: 1, duplicate: true}, acks[1])
	require.NoError(t, acks[2].err)
	m, err := stream.GetMsg(t.Context(), acks[2].seq)
	require.NoError(t, err)
	require.Equal(t, "new", m.Header.Get(jetstream.MsgIDHeader))
}

// A stream with copies on other servers stays alive, whatever was on it when
// messages came of which one has to follow the other.
func TestAChainIsNotForCopies(t *testing.T) {
	t.Parallel()
	nc := cluster(t)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	cfg := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Storage: jetstream.MemoryStorage, Replicas: 3, AllowAtomicPublish: true}
	require.Eventually(t, func() bool {
		_, err := js.CreateOrUpdateStream(t.Context(), cfg)
		return err == nil
	}, time.Minute, 50*time.Millisecond, "the stream is made")
	msgs := func(ids ...string) []*nats.Msg {
		all := make([]*nats.Msg, len(ids))
		for i, id := range ids {
			all[i] = &nats.Msg{Subject: "s", Header: nats.Header{jetstream.MsgIDHeader: {id}, jetstream.ExpectedStreamHeader: {"S"}}}
		}
		return all
	}
	// A stream that somebody else gave its copies is one as well.
	for copies, p := range map[int]*publisher{1: newPublisher(js, Auto, 1, time.Minute), 3: newPublisher(js, Auto, 3, time.Minute)} {
		id := func(n string) string { return fmt.Sprint(copies, n) }
		for range 2 { // the second time the first is known, and is not the last one any more
			for i, a := range p.publish(t.Context(), msgs(id("a"), id("b"), id("c"))) {
				require.NoError(t, a.err, "message %d with %d copies", i, copies)
			}
			for _, a := range p.publish(t.Context(), msgs(id("a"), id("d"))) {
				require.NoError(t, a.err)
			}
		}
	}
}

// cluster is a connection to three servers that know each other.
func cluster(t *testing.T) *nats.Conn {
	t.Helper()
	var routes []*url.URL
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
		require.NoError(t, l.Close()) // to whom it is given: they have to know each other before they begin
	}
	var urls []string
	for i, route := range routes {
		port, err := strconv.Atoi(route.Port())
		require.NoError(t, err)
		srv, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port}, Routes: routes,
		})
		require.NoError(t, err)
		srv.Start()
		t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
		require.Eventually(t, func() bool { return srv.Addr() != nil }, time.Minute, 10*time.Millisecond)
		urls = append(urls, srv.ClientURL())
	}
	nc, err := nats.Connect(strings.Join(urls, ","), nats.Timeout(time.Minute))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// Whatever else is published, known before, refused or made anew: what is said
// to be on the stream is there, once, at the sequence that was told.
func TestPublisherTellsWhatTheStreamHas(t *testing.T) {
	t.Parallel()
	js, err := jetstream.New(testenv.NATS(t))
	require.NoError(t, err)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		name := fmt.Sprint("S", run)
		cfg := jetstream.StreamConfig{
			Name: name, Subjects: []string{fmt.Sprintf("s%d.>", run)}, AllowAtomicPublish: true, Storage: jetstream.MemoryStorage,
			MaxMsgSize: 1000, MaxMsgs: 1000, Discard: jetstream.DiscardNew,
		}
		stream, err := js.CreateStream(t.Context(), cfg)
		require.NoError(t, err)
		defer func() { _ = js.DeleteStream(t.Context(), name) }()
		p := newPublisher(js, rapid.SampledFrom([]Mode{Auto, Async, Atomic}).Draw(t, "mode"), 1, time.Minute)
		known := 0          // ids so far
		purged := uint64(0) // up to here
		msg := func(id int, size int) *nats.Msg {
			return &nats.Msg{
				Subject: fmt.Sprintf("s%d.x", run), Data: make([]byte, size),
				Header: nats.Header{jetstream.MsgIDHeader: {fmt.Sprint(id)}, jetstream.ExpectedStreamHeader: {name}},
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				n := rapid.OneOf(rapid.IntRange(1, 90), rapid.IntRange(128, 300)).Draw(t, "n")
				msgs := make([]*nats.Msg, n)
				ids := make([]int, n)
				for i := range msgs {
					known++
					ids[i] = known
					msgs[i] = msg(ids[i], 10)
				}
				at := rapid.IntRange(0, n-1)
				for range 3 {
					switch rapid.SampledFrom([]string{"good", "good", "good", "good", "known", "last", "large"}).Draw(t, "what") {
					case "known":
						i := at.Draw(t, "at")
						ids[i] = rapid.IntRange(1, known).Draw(t, "id")
						msgs[i] = msg(ids[i], 10)
					case "last": // of those that may be on the stream by now
						i := at.Draw(t, "at")
						ids[i] = max(1, known-n)
						msgs[i] = msg(ids[i], 10)
					case "large":
						i := at.Draw(t, "at")
						msgs[i] = msg(ids[i], 2000)
					}
				}
				for i, a := range p.publish(t.Context(), msgs) {
					if a.err != nil {
						require.True(t, isRefused(a.err) && len(msgs[i].Data) == 2000 || isFull(a.err), "%v", a.err)
						continue
					}
					m, err := stream.GetMsg(t.Context(), a.seq)
					if a.seq <= purged && errors.Is(err, jetstream.ErrMsgNotFound) {
						continue // one that was known
					}
					require.NoError(t, err, "message %d of %d at %d", i, n, a.seq)
					require.Equal(t, fmt.Sprint(ids[i]), m.Header.Get(jetstream.MsgIDHeader))
				}
			},
			"somebody else": func(t *rapid.T) {
				known++
				_, _ = js.PublishMsg(t.Context(), msg(known, 10)) // it may be full
			},
			"anew": func(t *rapid.T) {
				require.NoError(t, js.DeleteStream(t.Context(), name))
				purged = 0
				stream, err = js.CreateStream(t.Context(), cfg)
				require.NoError(t, err)
			},
			"purge": func(t *rapid.T) {
				info, err := stream.Info(t.Context())
				require.NoError(t, err)
				purged = info.State.LastSeq
				require.NoError(t, stream.Purge(t.Context()))
				p.mu.Lock()
				p.after = time.Time{} // as if time went by
				p.mu.Unlock()
			},
		})
	})
}

package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/cmd/internal/boot"
)

// As in obs follow | head -1: what cannot be printed is no reason to ask the
// server again and again.
func TestFollowEndsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		_, _ = io.WriteString(w, "id: 7\nevent: job\ndata: {\"type\":\"queued\",\"jobId\":\"job_1\"}\n\n")
	}))
	defer server.Close()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	require.NoError(t, r.Close())

	for _, json := range []bool{false, true} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var stderr output
		err = followCommand{URL: server.URL, Key: "k", JSON: json}.Run(ctx, boot.Std{Stdout: w, Stderr: &stderr})
		require.ErrorContains(t, err, "broken pipe")
		require.NoError(t, ctx.Err())
		require.Empty(t, stderr.String())
		require.Len(t, asked, 1)
		<-asked
	}
}

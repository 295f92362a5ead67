package embedded_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/seed-245eaa15/obs/internal/embedded"
)

// childDir makes the test binary a program that starts a server on the folder it names, prints the server's
// process id and then waits to be killed.
const childDir = "OBS_EMBEDDED_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		pg, err := embedded.StartPostgres(context.Background(), embedded.PostgresConfig{Dir: dir, Fast: true})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(pg.Pid())
		<-pg.Done() // nobody stops it: only our own death does
		os.Exit(0)
	}
	goleak.VerifyTestMain(m) // servers and brokers leave nothing behind
}

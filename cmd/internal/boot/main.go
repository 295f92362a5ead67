package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// The exit codes of every program and command.
const (
	ExitOK      = 0
	ExitFailed  = 1 // it did not work, or obs check found something
	ExitMisused = 2 // flags, variables or arguments are wrong

	ExitNotRunning = 3 // obs server status: no server there
	ExitSilent     = 4 // obs server status: there is one, and it does not answer

	ExitUnread = 128 + int(syscall.SIGPIPE) // who read our output has left, as head does
)

// Std is what a program has from outside: tests give their own.
type Std struct {
	Args      []string // without the program's name
	LookupEnv func(name string) (string, bool)
	Stdin     io.Reader
	Stdout    io.Writer
	Stderr    io.Writer
}

// Main runs a program and ends the process with the code that it returns.
// The first SIGINT or SIGTERM ends run's context, the second one the process.
func Main(run func(ctx context.Context, std Std) int) {
	signal.Ignore(syscall.SIGPIPE) // who reads us may leave: we still have to tidy up
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // from now on a signal does what it does by itself
	code := run(ctx, Std{Args: os.Args[1:], LookupEnv: os.LookupEnv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	stop()
	os.Exit(code)
}

// Misuse is an error in what the person at the terminal wrote: exit code 2.
type Misuse struct {
	Problems []string // at least one; a line each
}

func (m *Misuse) Error() string { return strings.Join(m.Problems, "\n") }

// Misused makes a Misuse of one problem.
func Misused(format string, args ...any) error {
	return &Misuse{Problems: []string{fmt.Sprintf(format, args...)}}
}

// ErrTold is a failure that has been told already: exit code 1 and no line.
var ErrTold = errors.New("told already")

// ExitCode is like ErrTold with a code of its own.
type ExitCode int

func (c ExitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// Exit tells err in a line for each thing to mend, and gives the exit code.
func Exit(std Std, program string, err error) int {
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrTold):
		return ExitFailed
	}
	if file, ok := errors.AsType[*fs.PathError](err); ok && file.Path == os.Stdout.Name() && errors.Is(file, syscall.EPIPE) {
		return ExitUnread // and nobody waits for a word about it
	}
	if code, ok := errors.AsType[ExitCode](err); ok {
		return int(code)
	}
	if m, ok := errors.AsType[*Misuse](err); ok {
		for _, p := range m.Problems {
			fmt.Fprintf(std.Stderr, "%s: %s\n", program, oneLine(p))
		}
		return ExitMisused
	}
	fmt.Fprintf(std.Stderr, "%s: %s\n", program, oneLine(err.Error()))
	return ExitFailed
}

func oneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}

package boot

import (
	"context"
	"errors"
	"strings"

	"github.com/alecthomas/kong"
)

// Parse reads std.Args into cli, a struct with kong's tags. A flag that has
// the tag var takes its value from that environment variable when it is not
// on the command line and the variable is not empty. The command to run is nil when everything asked for,
// such as --help, has been done. addr is where --addr listens by default. The
// error is a [*Misuse].
func Parse(ctx context.Context, std Std, program, about, addr string, cli any) (command *kong.Context, err error) {
	if err := arm(std); err != nil {
		return nil, Misused("%s", err)
	}
	parser, err := kong.New(cli,
		kong.Name(program),
		kong.Description(about),
		kong.Writers(std.Stdout, std.Stderr),
		kong.Exit(func(int) { panic(exited{}) }),
		kong.Vars{"version": program + " " + Build(), "addr": addr, "grace": "20s"},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.ValueFormatter(withVariable),
		kong.Resolvers(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
			if v, ok := std.LookupEnv(flag.Tag.Get("var")); ok && v != "" {
				return v, nil
			}
			return nil, nil //nolint:nilnil // kong's word for "not known here"
		})),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
	)
	if err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(exited); !ok {
				panic(r)
			}
			command, err = nil, nil
		}
	}()
	command, err = parser.Parse(std.Args)
	if err != nil {
		return nil, Misused("%s (try --help)", err)
	}
	return command, nil
}

// VersionFlag is --version.
type VersionFlag = kong.VersionFlag

// exited is how --help and --version leave kong's parser, which goes on
// otherwise.
type exited struct{}

// Run does what [Parse] found, and tells the outcome.
func Run(std Std, program string, command *kong.Context, err error) int {
	if err == nil && command != nil {
		err = command.Run()
	}
	return Exit(std, program, err)
}

// withVariable puts the default and the variable behind a flag's help.
func withVariable(v *kong.Value) string {
	var also []string
	if v.HasDefault && v.Default != "" && v.Tag.PlaceHolder != "" {
		also = append(also, v.Default)
	}
	if name := v.Tag.Get("var"); name != "" {
		also = append(also, "$"+name)
	}
	if len(also) == 0 {
		return v.Help
	}
	return v.Help + " [" + strings.Join(also, ", ") + "]"
}

// joined is nil when there are no problems.
func joined(problems []string) error {
	if len(problems) == 0 {
		return nil
	}
	return &Misuse{Problems: problems}
}

// Join puts the problems of several misuses together, so that all are told at
// once. Any other error goes before them.
func Join(errs ...error) error {
	var problems []string
	for _, err := range errs {
		if err == nil {
			continue
		}
		m, ok := errors.AsType[*Misuse](err)
		if !ok {
			return err
		}
		problems = append(problems, m.Problems...)
	}
	return joined(problems)
}

package boot

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reader reads settings and collects what is wrong with them.
type reader struct {
	optional bool // the URLs of Postgres and NATS may be missing
	problems []string
}

// add names the flag and its variable: nobody knows by which it was set.
func (r *reader) add(flag, problem string) {
	r.problems = append(r.problems, fmt.Sprintf("--%s (%s): %s", flag, Variable(flag), problem))
}

func (r *reader) bad(flag, value, want string) {
	r.add(flag, fmt.Sprintf("got %.80q, want %s", value, want))
}

func (r *reader) missing(flag, want string) { r.add(flag, "it is needed, "+want) }

// Variable is the environment variable of a flag.
func Variable(flag string) string {
	return "OBS_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func (r *reader) duration(flag, value string, least time.Duration) time.Duration {
	d, err := time.ParseDuration(value)
	if err != nil || d < least {
		want := "a time such as 30s or 5m"
		if least > 0 {
			want += fmt.Sprintf(", at least %v", least)
		}
		r.bad(flag, value, want)
	}
	return d
}

func (r *reader) integer(flag, value string, least, most int) int {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		r.bad(flag, value, fmt.Sprintf("a number from %d to %d", least, most))
	}
	return n
}

func (r *reader) fraction(flag, value string) float64 {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || !(f >= 0 && f <= 1) {
		r.bad(flag, value, "a number from 0 to 1")
	}
	return f
}

// secret is what a flag has, or the file that another one names.
func (r *reader) secret(flag, value, file string) string {
	switch {
	case file == "":
		return value
	case value != "":
		r.add(flag, fmt.Sprintf("it and --%s-file (%s) exclude each other", flag, Variable(flag+"-file")))
		return value
	}
	b, err := os.ReadFile(file)
	if err != nil {
		r.add(flag+"-file", err.Error())
	}
	return strings.TrimSpace(string(b))
}

// dollars reads US dollars as millionths of them.
func (r *reader) dollars(flag, value string) int64 {
	n, err := Dollars(value)
	if err != nil {
		r.bad(flag, value, "US dollars such as 5 or 12.50")
	}
	return n
}

// Dollars reads US dollars as millionths of them.
func Dollars(s string) (int64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= 1e9) {
		return 0, fmt.Errorf("%.40q is no sum of US dollars", s)
	}
	return int64(f*1e6 + 0.5), nil
}

func (r *reader) size(flag, value string, least int64) int64 {
	number, unit := value, int64(1)
	for _, u := range []struct {
		name string
		size int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}} {
		if n, ok := strings.CutSuffix(value, u.name); ok {
			number, unit = strings.TrimSpace(n), u.size
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > 1<<62/unit || n*unit < least {
		r.bad(flag, value, fmt.Sprintf("bytes such as 1GiB or 512MiB, at least %d", least))
		return 0
	}
	return n * unit
}

func (r *reader) oneOf(flag, value string, words ...string) {
	if !slices.Contains(words, value) {
		r.bad(flag, value, strings.Join(words, " or "))
	}
}

// file looks whether a file that is named can be read.
func (r *reader) file(flag, path string) {
	if path == "" {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		r.add(flag, err.Error())
		return
	}
	_ = f.Close() // only opened to see whether it can be
}

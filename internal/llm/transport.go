package llm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What the providers that talk HTTP have in common. No error of theirs has a
// URL, a header or a body in it: those may hold keys, and prompts.

const (
	maxBody      = 8 << 20        // of an answer
	maxAfter     = 24 * time.Hour // a longer Retry-After is not believed
	answerTime   = 2 * time.Minute
	answerTokens = 4096
)

// trouble makes the errors of one provider.
type trouble struct{ provider string }

func (t trouble) error(f Fault, status int, after time.Duration, err error) *Error {
	return &Error{Provider: t.provider, Fault: f, Status: status, After: after, Err: err}
}

// client is for one provider: a redirect would lead our key somewhere else.
func client() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// exchange posts a document and gives the JSON that came back with status 200.
// Every other answer is given to refused, with the body as far as it was read.
func exchange(ctx context.Context, t trouble, hc *http.Client, u string, header http.Header, question any, refused func(status int, body []byte) error) (json.RawMessage, error) {
	doc, err := json.Marshal(question)
	if err != nil {
		return nil, t.error(FaultRefused, 0, 0, fmt.Errorf("write the question: %w", err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, bytes.NewReader(doc))
	if err != nil {
		return nil, t.error(FaultDenied, 0, 0, errors.New("its URL is no URL"))
	}
	req.Header = header.Clone()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	res, err := hc.Do(req)
	if err != nil {
		return nil, t.broken(ctx, 0, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	after := retryAfter(res.Header, time.Now())
	if res.StatusCode != http.StatusOK {
		err := refused(res.StatusCode, body) // also with half a body: the status says most
		if e, ok := errors.AsType[*Error](err); ok {
			e.After = max(e.After, after)
		}
		return nil, err
	}
	switch {
	case err != nil:
		return nil, t.broken(ctx, res.StatusCode, err)
	case len(body) > maxBody:
		return nil, t.error(FaultBroken, res.StatusCode, after, fmt.Errorf("the answer is larger than %d bytes", maxBody))
	case !json.Valid(body):
		kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
		if kind != "" && kind != "application/json" && !plainType.MatchString(kind) {
			kind = "something else"
		}
		return nil, t.error(FaultBroken, res.StatusCode, after, fmt.Errorf("what came is not JSON but %s of %d bytes", orElse(kind, "something"), len(body)))
	}
	return body, nil
}

var plainType = regexp.MustCompile(`^[a-z]{1,20}/[a-z0-9.+-]{1,40}$`)

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// broken is an exchange that did not come to its end. When it was the caller
// who ended it, the error is the context's.
func (t trouble) broken(ctx context.Context, status int, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errSlow) {
		return cause
	}
	return t.error(FaultBroken, status, 0, errors.New(causeOf(ctx, err)))
}

var errSlow = errors.New("no answer in time")

// causeOf says in a few words what broke, without addresses.
func causeOf(ctx context.Context, err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return map[bool]string{true: "no such host", false: "its host's name could not be looked up"}[dns.IsNotFound]
	}
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return number.Error()
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not trusted"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "its certificate is not trusted"
	}
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case errors.Is(context.Cause(ctx), errSlow), ok && timeout.Timeout():
		return errSlow.Error()
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "the answer broke off"
	}
	return "the connection broke"
}

// classify says what a status means. body is searched for the words by which
// providers tell a quota that is used up; a 429 is always worth another try.
func classify(status int, body []byte) Fault {
	switch {
	case status == http.StatusPaymentRequired, usedUp.Match(body) && (status == http.StatusTooManyRequests || status == http.StatusForbidden):
		return FaultExhausted
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, status == 529:
		return FaultBusy
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly, status >= 500:
		return FaultBroken
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound,
		status == http.StatusMethodNotAllowed, status < 400:
		return FaultDenied
	}
	return FaultRefused
}

var usedUp = regexp.MustCompile(`(?i)insufficient[_ ](?:quota|credits)|quota exceeded|exceeded your current quota|key limit exceeded|negative credit`)

// retryAfter reads the header: seconds, also with a fraction, or a date; or
// that of OpenAI, which has milliseconds.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return time.Duration(min(ms/1000, maxAfter.Seconds()) * float64(time.Second))
	}
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		if math.IsNaN(s) || s <= 0 {
			return 0
		}
		return time.Duration(min(s, maxAfter.Seconds()) * float64(time.Second))
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), maxAfter)
	}
	return 0
}

// endpoint puts the paths behind a base URL, in order, but not those that it
// ends with already.
func endpoint(base string, paths ...string) (string, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("its URL is to be such as http://127.0.0.1:11434/v1, with nothing secret in it")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	for i := range paths {
		if there := strings.Join(paths[:len(paths)-i], ""); strings.HasSuffix(u.Path, there) {
			u.Path = strings.TrimSuffix(u.Path, there)
			break
		}
	}
	u.Path += strings.Join(paths, "")
	return u.String(), nil
}

package main

// How qwen pull talks with the hub: who it is, what it asks, and when it asks again.
//
// Reference: huggingface_hub constants.py, utils/_auth.py, utils/_http.py.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxAnswer is how much an answer about files, or an index of shards, may have; an
// index has about 100 bytes a tensor.
const maxAnswer = 64 << 20

func newPuller(repo, revision string) (*puller, error) {
	endpoint := os.Getenv("HF_ENDPOINT")
	if endpoint == "" {
		endpoint = "https://huggingface.co"
	}
	where, err := url.Parse(endpoint)
	if err != nil || where.Host == "" || where.Scheme != "https" && where.Scheme != "http" {
		return nil, errors.New("HF_ENDPOINT: found no address of a server, expected https://HOST")
	}
	token, err := hubToken()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = time.Minute
	return &puller{
		repo: repo, revision: revision, cache: hubCache(), progress: newProgress(os.Stderr), sleep: sleep, openPart: openPart,
		endpoint: strings.TrimRight(endpoint, "/"), token: token, quiet: time.Minute,
		client: &http.Client{Transport: transport, CheckRedirect: checkRedirect},
	}, nil
}

// hubToken returns the token of the environment, else the one that Hugging Face's
// libraries have stored at a login, else "".
func hubToken() (string, error) {
	source, token := "HF_TOKEN", os.Getenv("HF_TOKEN")
	if token == "" {
		source, token = "HUGGING_FACE_HUB_TOKEN", os.Getenv("HUGGING_FACE_HUB_TOKEN")
	}
	if token == "" && !isTrue("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
		if source = os.Getenv("HF_TOKEN_PATH"); source == "" {
			source = filepath.Join(hubHome(), "token")
		}
		source = expandHome(source)
		if _, err := os.Stat(source); err == nil {
			data, err := readFile(source, 1<<16)
			if err != nil {
				return "", err
			}
			token = string(data)
		}
	}
	token = strings.TrimSpace(strings.NewReplacer("\r", "", "\n", "").Replace(token))
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: found a character that no token has, expected letters, digits and _", source)
	}
	return token, nil
}

// isTrue says whether a variable switches something on.
func isTrue(name string) bool {
	return slices.Contains([]string{"1", "ON", "YES", "TRUE"}, strings.ToUpper(os.Getenv(name)))
}

// offline says whether the network must not be used.
func offline() bool {
	return isTrue("HF_HUB_OFFLINE") || os.Getenv("HF_HUB_OFFLINE") == "" && isTrue("TRANSFORMERS_OFFLINE")
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// checkRedirect keeps the token from every host but the first. net/http itself
// passes it on to subdomains, and to other ports of the same host.
func checkRedirect(to *http.Request, via []*http.Request) error {
	first := via[0].URL
	if to.URL.Scheme != "https" && (first.Scheme == "https" || to.URL.Scheme != "http") {
		return redirectError("found a redirect from " + first.Scheme + " to " + to.URL.Scheme + ", expected https")
	}
	if origin(to.URL) != origin(first) {
		to.Header.Del("Authorization")
		if to.Method == http.MethodHead {
			return http.ErrUseLastResponse // the hub's own answer says what the file is
		}
	}
	if len(via) >= 10 {
		return redirectError("found more than 10 redirects")
	}
	return nil
}

// origin is what two addresses of the same server have in common.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// A redirectError is not worth another attempt.
type redirectError string

func (e redirectError) Error() string { return string(e) }

// info asks for the commit that the revision stands for, and its files.
func (p *puller) info(ctx context.Context) (commit string, files []string, err error) {
	where := p.endpoint + "/api/models/" + p.repo + "/revision/" + url.PathEscape(p.revision)
	var data []byte
	err = p.try(ctx, "", func() error {
		response, err := p.ask(ctx, http.MethodGet, where, 0)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return p.refused("", response)
		}
		if data, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1)); err != nil {
			return again(p.fault("", "the list of files: %s", brief(err)))
		}
		return nil
	})
	if err != nil {
		return "", nil, err
	}
	if len(data) > maxAnswer {
		return "", nil, p.fault("", "the list of files: found more than %d bytes", maxAnswer)
	}
	// What checkJSON refuses is no answer of the hub either.
	if checkJSON(data) != "" || readField(data, "sha", &commit) != nil || !commitForm.MatchString(commit) {
		return "", nil, p.fault("", "found an answer without a commit, expected one of the hub (is HF_ENDPOINT right?)")
	}
	var siblings []json.RawMessage
	if err := readField(data, "siblings", &siblings); err != nil {
		return "", nil, p.fault("", "the list of files: %v", err)
	}
	files = make([]string, len(siblings))
	for i, s := range siblings {
		if err := readField(s, "rfilename", &files[i]); err != nil {
			return "", nil, p.fault("", "the list of files: siblings[%d]: %v", i, err)
		}
	}
	return commit, files, nil
}

// readField reads one field of a JSON object, which checkJSON has seen, into v. Unlike
// encoding/json by itself it takes the name as it is written, and null for nothing.
func readField(data []byte, name string, v any) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return errors.New("found no JSON object")
	}
	if field, ok := fields[name]; !ok || string(field) == "null" {
		return fmt.Errorf("found no %s", name)
	} else if json.Unmarshal(field, v) != nil {
		return fmt.Errorf("found another %s", name)
	}
	return nil
}

// ask sends a request, from byte from of the file on.
func (p *puller) ask(ctx context.Context, method, where string, from int64) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	request, err := http.NewRequestWithContext(ctx, method, where, nil)
	if err != nil {
		cancel(nil)
		return nil, p.fault("", "HF_ENDPOINT is not an address: %s", brief(err))
	}
	request.Header.Set("User-Agent", "qwen")
	request.Header.Set("Accept-Encoding", "identity") // the size that counts is the file's
	if p.token != "" {
		request.Header.Set("Authorization", "Bearer "+p.token)
	}
	if from > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	response, err := p.client.Do(request)
	if err != nil {
		cancel(nil)
		problem := p.fault("", "%s", brief(err))
		if errors.As(err, new(redirectError)) {
			return nil, problem
		}
		return nil, again(problem)
	}
	response.Body = &answerBody{response.Body, ctx, cancel, p.quiet}
	return response, nil
}

// An answerBody is what comes on a connection, which is cut when nothing does for long.
type answerBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	quiet  time.Duration
}

func (b *answerBody) Read(p []byte) (int, error) {
	timer := time.AfterFunc(b.quiet, func() { b.cancel(fmt.Errorf("nothing has come for %v", b.quiet)) })
	defer timer.Stop()
	n, err := b.ReadCloser.Read(p)
	if cause := context.Cause(b.ctx); err != nil && err != io.EOF && cause != nil {
		err = cause
	}
	return n, err
}

func (b *answerBody) Close() error {
	b.cancel(nil)
	return b.ReadCloser.Close()
}

// brief is an error of the network without the address, which may hold secrets.
func brief(err error) string {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "the connection was cut"
	}
	return err.Error()
}

// A temporary error may be gone at the next attempt.
type temporary struct {
	error
	wait time.Duration // what the server asked for; 0 if nothing
}

func again(err error) error { return temporary{error: err} }

func (t temporary) Unwrap() error { return t.error }

// refused is the error for an answer that is not a success.
func (p *puller) refused(file string, response *http.Response) error {
	status := response.Status
	switch code := response.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return p.fault(file, "the hub says %s: expected a public repository, or HF_TOKEN of somebody who may read it", status)
	case code == http.StatusNotFound:
		return p.fault(file, "the hub says %s: expected a repository with revision %q", status, p.revision)
	case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= 500:
		return temporary{p.fault(file, "the hub says %s", status), askedToWait(response.Header)}
	}
	return p.fault(file, "the hub says %s, expected the file", status)
}

// rateLimit says that r requests are left for the next t seconds, as the draft of the
// IETF has it: "api";r=0;t=55
var rateLimit = regexp.MustCompile(`"\w+"\s*;\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})\b`)

// askedToWait is how long a server wants to be left alone; 0 if it does not say.
// Retry-After is in seconds, or a date.
func askedToWait(h http.Header) time.Duration {
	s := strings.TrimSpace(h.Get("Retry-After"))
	if limit := rateLimit.FindStringSubmatch(h.Get("RateLimit")); limit != nil {
		s = limit[1]
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return time.Duration(min(n, 86400)) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

const (
	attempts    = 6               // without a byte of progress
	longestWait = 5 * time.Minute // that a server may ask for
)

// try calls do until it succeeds, fails for good, or has failed too often.
func (p *puller) try(ctx context.Context, file string, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		var t temporary
		if err == nil || ctx.Err() != nil || !errors.As(err, &t) {
			return err
		}
		if t.wait > longestWait {
			return fmt.Errorf("%w, and to come again in %v", t.error, t.wait.Round(time.Second))
		} else if n == attempts {
			return fmt.Errorf("%w (given up after %d attempts)", t.error, n)
		}
		wait := max(t.wait, time.Second<<(n-1))
		p.progress.note("%v: again in %v", t.error, wait.Round(time.Second))
		if err := p.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

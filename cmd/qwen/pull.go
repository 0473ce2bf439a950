package main

// qwen pull fetches a checkpoint from the hub into the Hugging Face cache, laid
// out as huggingface_hub lays it out, so that Python finds what is fetched here
// and the other way round:
//
//	models--ORG--NAME/
//	  blobs/ETAG               a file's contents, under the hash of them
//	  blobs/ETAG.incomplete    what has come so far
//	  snapshots/COMMIT/NAME -> ../../blobs/ETAG
//	  refs/REVISION            the commit that a branch or tag stood for
//	.locks/models--ORG--NAME/ETAG.lock
//
// A blob gets its name when all of it is there and its hash is right, a snapshot
// when all of its blobs are there, and the ref is written last: whatever ends the
// program in between, nothing that looks whole is broken, and the next pull goes
// on where this one stopped.
//
// The server is believed as little as a checkpoint: names of files are checked
// before they are used, sizes are limits, hashes decide. The token goes to the
// endpoint and to no other host.
//
// Reference: huggingface_hub file_download.py, _snapshot_download.py.

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func setupPull(f *flag.FlagSet) func([]string) error {
	revision := f.String("revision", "main", "branch, tag or commit")
	return func(args []string) error {
		if len(args) != 1 || !isRepository(args[0]) {
			return usageError("expected one repository name, such as Qwen/Qwen3-0.6B")
		}
		if !isLocalName(*revision) {
			return usageError(fmt.Sprintf("-revision %q, expected a branch, a tag or a commit", *revision))
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		dir, err := newPuller(args[0], *revision).pull(ctx)
		if ctx.Err() != nil {
			return exitStatus(exitInterrupted) // what has come so far stays
		} else if err != nil {
			return err
		}
		fmt.Fprintln(stdout, dir)
		return nil
	}
}

// A puller fetches one revision of one repository.
type puller struct {
	repo, revision  string
	endpoint, token string
	cache           string // the Hugging Face cache
	progress        *progress
	sleep           func(context.Context, time.Duration) error
	openPart        func(name string) (partFile, error)
	client          *http.Client
}

// A partFile is a blob that is being fetched.
type partFile interface {
	io.ReadWriteSeeker
	io.Closer
	Truncate(size int64) error
	Sync() error
}

func newPuller(repo, revision string) *puller {
	endpoint := os.Getenv("HF_ENDPOINT")
	if endpoint == "" {
		endpoint = "https://huggingface.co"
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = time.Minute
	return &puller{
		repo: repo, revision: revision, cache: hubCache(), progress: newProgress(os.Stderr), sleep: sleep,
		endpoint: strings.TrimRight(endpoint, "/"), token: strings.TrimSpace(os.Getenv("HF_TOKEN")),
		openPart: func(name string) (partFile, error) { return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666) },
		client:   &http.Client{Transport: transport, CheckRedirect: checkRedirect},
	}
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
	if first.Scheme == "https" && to.URL.Scheme != "https" {
		return redirectError("found a redirect from https to " + to.URL.Scheme + ", expected https")
	}
	if to.URL.Host != first.Host || to.URL.Scheme != first.Scheme {
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

// A redirectError is not worth another attempt.
type redirectError string

func (e redirectError) Error() string { return string(e) }

// folder is where the repository lies in the cache.
func (p *puller) folder() string {
	return filepath.Join(p.cache, "models--"+strings.ReplaceAll(p.repo, "/", "--"))
}

// fault is an error about a file of the repository, or about all of it ("").
func (p *puller) fault(file, format string, args ...any) error {
	if file != "" {
		file = "/" + file
	}
	return fmt.Errorf("%s%s: %s", p.repo, file, fmt.Sprintf(format, args...))
}

// pull fetches the checkpoint and returns the folder of its snapshot.
func (p *puller) pull(ctx context.Context) (dir string, err error) {
	defer p.progress.end()
	commit, all, err := p.info(ctx)
	if err != nil {
		return "", err
	}
	dir = filepath.Join(p.folder(), "snapshots", commit)
	blobs := map[string]string{} // file → etag, of those that are not in the snapshot yet
	fetch := func(names []string) error {
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); err == nil {
				continue
			}
			if blobs[name], err = p.file(ctx, commit, name); err != nil {
				return err
			}
		}
		return nil
	}
	files, shards, err := p.choose(all)
	if err == nil {
		err = fetch(files)
	}
	if err == nil && shards {
		if files, err = p.shards(dir, blobs[indexFile], all); err == nil {
			err = fetch(files)
		}
	}
	if err == nil {
		err = p.link(dir, blobs)
	}
	if err == nil && p.revision != commit {
		err = replaceFile(filepath.Join(p.folder(), "refs", filepath.FromSlash(p.revision)), commit)
	}
	return dir, err
}

const (
	weightsFile = "model.safetensors"
	indexFile   = "model.safetensors.index.json"
)

// choose returns those of the repository's files that Load reads, and says
// whether the weights are in shards, which the index will name.
func (p *puller) choose(all []string) (files []string, shards bool, err error) {
	for _, name := range []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} {
		if slices.Contains(all, name) {
			files = append(files, name)
		}
	}
	switch {
	case !slices.Contains(files, "config.json"):
		return nil, false, p.fault("", "found no config.json, expected a checkpoint")
	case slices.Contains(all, weightsFile):
		return append(files, weightsFile), false, nil
	case slices.Contains(all, indexFile):
		return append(files, indexFile), true, nil
	}
	return nil, false, p.fault("", "found neither %s nor %s, expected weights in that format", weightsFile, indexFile)
}

// shards returns the files that the index names. It lies in the snapshot, or, if
// it has just been fetched, under its etag.
func (p *puller) shards(dir, etag string, all []string) (files []string, err error) {
	name := filepath.Join(dir, indexFile)
	if etag != "" {
		name = filepath.Join(p.folder(), "blobs", etag)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil || len(index.WeightMap) == 0 {
		return nil, p.fault(indexFile, "found no weight_map, expected one from tensors to files")
	}
	names := map[string]bool{}
	for _, file := range index.WeightMap {
		if !isLocalName(file) || !slices.Contains(all, file) {
			return nil, p.fault(indexFile, "found the file name %.60q, expected a file of the repository", file)
		}
		names[file] = true
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// isLocalName says whether a name from the server can only be a file below the
// folder that it is joined to: the rule for names from an index.
func isLocalName(name string) bool {
	if !filepath.IsLocal(name) || len(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == '\\' || r == 0x7f }) {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

var (
	commitForm = regexp.MustCompile(`^[0-9a-f]{40}$`)
	etagForm   = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
)

// info asks for the commit that the revision stands for, and its files.
func (p *puller) info(ctx context.Context) (commit string, files []string, err error) {
	var answer struct {
		SHA      string                       `json:"sha"`
		Siblings []struct{ RFilename string } `json:"siblings"`
	}
	where := p.endpoint + "/api/models/" + p.repo + "/revision/" + url.PathEscape(p.revision)
	err = p.try(ctx, "", func() error {
		response, err := p.ask(ctx, http.MethodGet, where, 0)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return p.refused("", response)
		}
		data, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
		if err != nil {
			return again(p.fault("", "the list of files: %s", brief(err)))
		}
		if err := json.Unmarshal(data, &answer); err != nil || !commitForm.MatchString(answer.SHA) {
			return p.fault("", "found an answer without a commit, expected one of the hub (is HF_ENDPOINT right?)")
		}
		return nil
	})
	for _, s := range answer.Siblings {
		files = append(files, s.RFilename)
	}
	return answer.SHA, files, err
}

// ask sends a request, from byte from of the file on.
func (p *puller) ask(ctx context.Context, method, where string, from int64) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, where, nil)
	if err != nil {
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
	if errors.As(err, new(redirectError)) {
		return nil, p.fault("", "%s", brief(err))
	} else if err != nil {
		return nil, again(p.fault("", "%s", brief(err)))
	}
	return response, nil
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
	case code == http.StatusTooManyRequests || code >= 500:
		return temporary{p.fault(file, "the hub says %s", status), retryAfter(response.Header.Get("Retry-After"))}
	}
	return p.fault(file, "the hub says %s, expected the file", status)
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(s string) time.Duration {
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

// file makes sure that the blob of a file is in the cache and returns its name.
func (p *puller) file(ctx context.Context, commit, name string) (etag string, err error) {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	where := p.endpoint + "/" + p.repo + "/resolve/" + commit + "/" + strings.Join(parts, "/")
	size := int64(-1)
	err = p.try(ctx, name, func() error {
		response, err := p.ask(ctx, http.MethodHead, where, 0)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode >= 400 {
			return p.refused(name, response)
		}
		etag, size, err = p.describe(name, commit, response)
		return err
	})
	if err != nil {
		return "", err
	}
	blob := filepath.Join(p.folder(), "blobs", etag)
	unlock, err := p.lock(ctx, etag)
	if err != nil {
		return "", err
	}
	defer unlock()
	if info, err := os.Stat(blob); err == nil && info.Mode().IsRegular() && info.Size() == size {
		return etag, nil // another pull, or another commit, has fetched it
	}
	if err := os.MkdirAll(filepath.Dir(blob), 0o777); err != nil {
		return "", err
	}
	if err := p.fetch(ctx, name, where, blob+".incomplete", etag, size); err != nil {
		return "", err
	}
	return etag, os.Rename(blob+".incomplete", blob)
}

// describe reads what the hub says of a file: its hash and its size.
func (p *puller) describe(name, commit string, response *http.Response) (etag string, size int64, err error) {
	h := response.Header
	if found := h.Get("X-Repo-Commit"); found != commit {
		return "", 0, p.fault(name, "found X-Repo-Commit %.60q, expected %s", found, commit)
	}
	etag = h.Get("X-Linked-Etag")
	if etag == "" {
		etag = h.Get("ETag")
	}
	etag = strings.Trim(strings.TrimPrefix(etag, "W/"), `"`)
	if !etagForm.MatchString(etag) {
		return "", 0, p.fault(name, "found ETag %.80q, expected a sha1 or a sha256", etag)
	}
	text := h.Get("X-Linked-Size")
	if text == "" && response.StatusCode == http.StatusOK {
		text = h.Get("Content-Length")
	}
	if size, err = strconv.ParseInt(text, 10, 64); err != nil || size < 0 {
		return "", 0, p.fault(name, "found size %.60q, expected a number of bytes", text)
	}
	return etag, size, nil
}

// lock waits until no other program fetches the blob.
func (p *puller) lock(ctx context.Context, etag string) (unlock func(), err error) {
	name := filepath.Join(p.cache, ".locks", filepath.Base(p.folder()), etag+".lock")
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o664)
	if err != nil {
		return nil, err
	}
	for waited := false; ; waited = true {
		held, err := tryLock(file)
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("%s: cannot be locked: %v", name, err)
		}
		if held {
			return func() { file.Close() }, nil // which unlocks it
		}
		if !waited {
			p.progress.note("%s: waiting for another pull", p.repo)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			file.Close()
			return nil, err
		}
	}
}

// fetch fills part with a file of the given hash and size, from where an earlier
// fetch has stopped.
func (p *puller) fetch(ctx context.Context, name, where, part, etag string, size int64) error {
	file, err := p.openPart(part)
	if err != nil {
		return err
	}
	defer file.Close()
	d := download{puller: p, name: name, where: where, file: file, etag: etag, size: size}
	if err := d.resume(); err != nil {
		return err
	}
	resumed := d.at > 0
	for {
		if err := d.run(ctx); err != nil {
			return err
		}
		sum := hex.EncodeToString(d.sum.Sum(nil))
		if sum == etag {
			break
		}
		if err := d.restart(); err != nil { // what is wrong must not be resumed
			return err
		}
		if !resumed {
			file.Close()
			os.Remove(part)
			return p.fault(name, "found contents with hash %s, expected %s", sum, etag)
		}
		p.progress.note("%s/%s: what had come before was damaged: from the start", p.repo, name)
		resumed = false
	}
	p.progress.done(name, size)
	return errors.Join(file.Sync(), file.Close())
}

// A download is a file on its way.
type download struct {
	*puller
	name, where, etag string
	file              partFile
	at, size          int64     // how much has come, of how much
	sum               hash.Hash // of what has come
}

// resume reads what an earlier download has left.
func (d *download) resume() error {
	d.newSum()
	n, err := io.Copy(d.sum, io.LimitReader(d.file, d.size))
	if err != nil {
		return err
	}
	d.at = n
	return d.file.Truncate(n) // nothing after the end
}

// restart forgets what has come.
func (d *download) restart() error {
	d.newSum()
	d.at = 0
	return d.file.Truncate(0)
}

// newSum begins a hash: LFS files have the sha256 of their contents as ETag, the
// others what git calls them, a sha1 over their size and contents.
func (d *download) newSum() {
	if d.sum = sha256.New(); len(d.etag) == 40 {
		d.sum = sha1.New()
		fmt.Fprintf(d.sum, "blob %d\x00", d.size)
	}
}

// run downloads until all bytes are there, and again when the connection breaks.
func (d *download) run(ctx context.Context) error {
	for d.at < d.size {
		before := d.at
		err := d.try(ctx, d.name, func() error {
			err := d.once(ctx)
			if d.at > before && errors.As(err, new(temporary)) {
				d.progress.note("%v: going on at byte %d", err, d.at)
				return d.sleep(ctx, time.Second) // there was progress: not one of the attempts
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// once makes one request and writes what comes.
func (d *download) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	response, err := d.ask(ctx, http.MethodGet, d.where, d.at)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK: // all of it, whether asked for or not
		if d.at > 0 {
			if err := d.restart(); err != nil {
				return err
			}
		}
	case http.StatusPartialContent:
		if want := fmt.Sprintf("bytes %d-", d.at); !strings.HasPrefix(response.Header.Get("Content-Range"), want) {
			return d.fault(d.name, "found Content-Range %.60q, expected %s", response.Header.Get("Content-Range"), want)
		}
	default:
		return d.refused(d.name, response)
	}
	if _, err := d.file.Seek(d.at, io.SeekStart); err != nil {
		return err
	}
	quiet := time.AfterFunc(time.Minute, cancel) // a connection on which nothing comes is cut
	defer quiet.Stop()
	buffer := make([]byte, 1<<17)
	for {
		n, err := response.Body.Read(buffer)
		quiet.Reset(time.Minute)
		if int64(n) > d.size-d.at {
			return d.fault(d.name, "found more than the %d bytes that the hub has announced", d.size)
		}
		if _, err := d.file.Write(buffer[:n]); err != nil {
			return d.fault(d.name, "cannot be written: %s", writeProblem(err))
		}
		d.sum.Write(buffer[:n])
		d.at += int64(n)
		d.progress.show(d.name, d.at, d.size)
		if err == io.EOF && d.at == d.size {
			return nil
		} else if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return again(d.fault(d.name, "%s", brief(err)))
		}
	}
}

// writeProblem is an error of writing without the file's name.
func writeProblem(err error) string {
	if errors.Is(err, syscall.ENOSPC) {
		return "the disk is full; what has come stays, and the next pull goes on from there"
	}
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return err.Error()
}

// link makes the snapshot: a folder of links to blobs, under its own name only
// when all of them are there. A snapshot that is there already, Python's with
// fewer files perhaps, gets those that it lacks.
func (p *puller) link(dir string, blobs map[string]string) error {
	if len(blobs) == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return err
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), ".tmp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	if err := os.Chmod(made, 0o755); err != nil {
		return err
	}
	for name, etag := range blobs {
		if err := linkBlob(p.folder(), etag, filepath.Join(made, filepath.FromSlash(name)), strings.Count(name, "/")); err != nil {
			return err
		}
	}
	if os.Rename(made, dir) == nil {
		return nil
	}
	for name := range blobs { // dir is there
		name = filepath.FromSlash(name)
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(made, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// linkBlob makes name, depth folders below a snapshot, stand for a blob: by a
// relative link, or where the system allows none, as the file itself.
func linkBlob(folder, etag, name string, depth int) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	target := filepath.Join(strings.Repeat("../", depth+2), "blobs", etag)
	if os.Symlink(target, name) == nil {
		return nil
	}
	blob := filepath.Join(folder, "blobs", etag)
	if os.Link(blob, name) == nil {
		return nil
	}
	from, err := os.Open(blob)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// replaceFile writes a file that no reader sees half of.
func replaceFile(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.WriteString(text)
	if err := errors.Join(err, temp.Chmod(0o644), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), name)
}

// progress says how far a pull is: a bar on a terminal, else a line a file.
type progress struct {
	out      io.Writer
	terminal bool
	drawn    bool      // the bar is on the last line
	last     time.Time // when it was drawn
}

func newProgress(out *os.File) *progress {
	info, err := out.Stat()
	return &progress{out: out, terminal: err == nil && info.Mode()&fs.ModeCharDevice != 0}
}

// show draws the bar, ten times a second at most.
func (p *progress) show(name string, at, size int64) {
	if !p.terminal || size <= 0 || time.Since(p.last) < 100*time.Millisecond && at < size {
		return
	}
	const width = 30
	full := int(width * at / size)
	fmt.Fprintf(p.out, "\r\x1b[K%-28.28s [%s%s] %3d%% of %s", name, strings.Repeat("=", full), strings.Repeat(" ", width-full), 100*at/size, megabytes(size))
	p.last, p.drawn = time.Now(), true
}

// note writes a line.
func (p *progress) note(format string, args ...any) {
	p.end()
	fmt.Fprintln(p.out, oneLine(fmt.Sprintf(format, args...)))
}

// done says that a file is there.
func (p *progress) done(name string, size int64) {
	p.show(name, size, size)
	if p.terminal {
		p.end()
	} else {
		p.note("%s %s", name, megabytes(size))
	}
}

// end leaves the bar's line.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprintln(p.out)
		p.drawn = false
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

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
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
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
		if offline() {
			dir, found := cached(args[0], *revision)
			if !found {
				return fmt.Errorf("%s: not in the Hugging Face cache %s, and HF_HUB_OFFLINE forbids to fetch it", args[0], hubCache())
			}
			fmt.Fprintln(stdout, dir)
			return nil
		}
		p, err := newPuller(args[0], *revision)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		dir, err := p.pull(ctx)
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
	quiet           time.Duration // how long nothing may come on a connection
}

// A partFile is a blob that is being fetched.
type partFile interface {
	io.ReadWriteSeeker
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// folder is where the repository lies in the cache.
func (p *puller) folder() string { return repositoryFolder(p.cache, p.repo) }

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
	data, err := readFile(name, maxAnswer)
	if err != nil {
		return nil, err
	}
	if problem := checkJSON(data); problem != "" {
		return nil, p.fault(indexFile, "%s, expected a weight_map from tensors to files", problem)
	}
	var weightMap map[string]string
	if err := readField(data, "weight_map", &weightMap); err != nil || len(weightMap) == 0 {
		return nil, p.fault(indexFile, "%v, expected a weight_map from tensors to files", cmp.Or(err, errors.New("found none")))
	}
	names := map[string]bool{}
	for _, file := range weightMap {
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

// file makes sure that the blob of a file is in the cache and returns its name.
func (p *puller) file(ctx context.Context, commit, name string) (etag string, err error) {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	where := p.endpoint + "/" + p.repo + "/resolve/" + commit + "/" + strings.Join(parts, "/")
	etag, size, err := p.look(ctx, commit, name, where)
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

// look asks for a file's hash and size.
func (p *puller) look(ctx context.Context, commit, name, where string) (etag string, size int64, err error) {
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
	if err == nil && size < 0 {
		err = p.try(ctx, name, func() (err error) {
			size, err = p.measure(ctx, name, where)
			return err
		})
	}
	if err == nil && name == indexFile && size > maxAnswer {
		err = p.fault(name, "found %d bytes, expected at most %d", size, maxAnswer)
	}
	return etag, size, err
}

// describe reads what the hub says of a file: its hash, and its size or -1.
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
	if text == "" {
		return etag, -1, nil
	}
	if size, err = strconv.ParseInt(text, 10, 64); err != nil || size < 0 {
		return "", 0, p.fault(name, "found size %.60q, expected a number of bytes", text)
	}
	return etag, size, nil
}

// measure asks for a file and returns its size, by counting if nothing else says it:
// compressed on its way, a small file has none that a server knows beforehand.
func (p *puller) measure(ctx context.Context, name, where string) (int64, error) {
	response, err := p.ask(ctx, http.MethodGet, where, 0)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, p.refused(name, response)
	}
	if response.ContentLength >= 0 {
		return response.ContentLength, nil
	}
	size, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return 0, again(p.fault(name, "%s", brief(err)))
	}
	if size > maxAnswer {
		return 0, p.fault(name, "found no size, expected one for a file of more than %d bytes", maxAnswer)
	}
	return size, nil
}

// openPart opens what has come of a blob. Others may write to a cache that is shared:
// only a regular file is filled, and none that a link leads to.
func openPart(name string) (partFile, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|openPlainly|notALink, 0o666)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot be opened: %s, expected a regular file", name, reason(err))
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, fmt.Errorf("%s: found no regular file, expected one", name)
	}
	return file, nil
}

// lock waits until no other program fetches the blob.
func (p *puller) lock(ctx context.Context, etag string) (unlock func(), err error) {
	name := filepath.Join(p.cache, ".locks", filepath.Base(p.folder()), etag+".lock")
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|openPlainly, 0o664)
	if err != nil {
		return nil, err
	}
	file.Chmod(0o664) // as Python's, whatever the umask: who shares the cache waits too. Only the owner can
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
	restarted         bool      // because the server could not go on from there
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
	response, err := d.ask(ctx, http.MethodGet, d.where, d.at)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if goes, err := d.goesOn(response); !goes {
		return err
	}
	if _, err := d.file.Seek(d.at, io.SeekStart); err != nil {
		return err
	}
	buffer := make([]byte, 1<<17)
	for {
		n, err := response.Body.Read(buffer)
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

// goesOn says whether the answer is the file from where the download is. If it is all
// of the file, the download is put there. A server that cannot go on from the middle,
// because what is there has changed, perhaps, is asked for all of it, once.
func (d *download) goesOn(response *http.Response) (bool, error) {
	var err error
	switch part := response.Header.Get("Content-Range"); response.StatusCode {
	case http.StatusOK:
		if d.at > 0 {
			err = d.restart()
		}
		return err == nil, err
	case http.StatusPartialContent:
		want := fmt.Sprintf("bytes %d-", d.at)
		if strings.HasPrefix(part, want) {
			return true, nil
		}
		err = d.fault(d.name, "found Content-Range %.60q, expected %s", part, want)
	case http.StatusRequestedRangeNotSatisfiable:
		err = d.fault(d.name, "the hub says %s, expected the file from byte %d on", response.Status, d.at)
	default:
		return false, d.refused(d.name, response)
	}
	if d.at == 0 || d.restarted {
		return false, err
	}
	d.restarted = true
	d.progress.note("%v: from the start", err)
	return false, d.restart()
}

// writeProblem is an error of writing without the file's name.
func writeProblem(err error) string {
	if errors.Is(err, syscall.ENOSPC) {
		return "the disk is full; what has come stays, and the next pull goes on from there"
	}
	return reason(err)
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

package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bc1a8f18/qwen"
)

const testCommit = "0123456789abcdef0123456789abcdef01234567"

// A hub stands in for the real one: metadata and small files come from one host,
// large files by redirect from another, which is the same address with another
// port: net/http alone would hand the token on.
type hub struct {
	t        *testing.T
	files    map[string]string
	server   *httptest.Server
	cdn      *httptest.Server
	token    string                                                 // that is asked for, if any
	override func(w http.ResponseWriter, r *http.Request) bool      // answers in the hub's place
	blob     func(w http.ResponseWriter, r *http.Request, s string) // sends a file
	mu       sync.Mutex
	requests []string
}

func newHub(t *testing.T, files map[string]string) *hub {
	h := &hub{t: t, files: files, blob: sendBlob}
	h.server = httptest.NewServer(http.HandlerFunc(h.serve))
	h.cdn = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.note(r)
		if r.Header.Get("Authorization") != "" {
			t.Errorf("the token was sent to another host: %s", r.URL)
		}
		h.blob(w, r, h.files[strings.TrimPrefix(r.URL.Path, "/")])
	}))
	t.Cleanup(h.server.Close)
	t.Cleanup(h.cdn.Close)
	return h
}

func (h *hub) note(r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = append(h.requests, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
}

// count returns the number of requests that contain text.
func (h *hub) count(text string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.requests {
		if strings.Contains(r, text) {
			n++
		}
	}
	return n
}

func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	h.note(r)
	if h.token != "" && r.Header.Get("Authorization") != "Bearer "+h.token {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	if h.override != nil && h.override(w, r) {
		return
	}
	if strings.HasPrefix(r.URL.Path, "/api/models/Org/Tiny/revision/") {
		var siblings []string
		for _, name := range slices.Sorted(maps.Keys(h.files)) {
			siblings = append(siblings, fmt.Sprintf(`{"rfilename":%q}`, name))
		}
		fmt.Fprintf(w, `{"id":"Org/Tiny","sha":%q,"siblings":[%s]}`, testCommit, strings.Join(siblings, ","))
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/Org/Tiny/resolve/"+testCommit+"/")
	text, ok := h.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("X-Repo-Commit", testCommit)
	if isLarge(name) {
		w.Header().Set("X-Linked-Etag", `"`+etagOf(name, text)+`"`)
		w.Header().Set("X-Linked-Size", strconv.Itoa(len(text)))
		http.Redirect(w, r, h.cdn.URL+"/"+name+"?signature=secret", http.StatusFound)
		return
	}
	w.Header().Set("ETag", `"`+etagOf(name, text)+`"`)
	h.blob(w, r, text)
}

func isLarge(name string) bool { return strings.HasSuffix(name, ".safetensors") }

// etagOf is what the hub calls a file: by sha256 if it is large, else as git does.
func etagOf(name, text string) string {
	if isLarge(name) {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(text), text))
	return hex.EncodeToString(sum[:])
}

func sendBlob(w http.ResponseWriter, r *http.Request, text string) {
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
}

// puller returns one for the hub and a new cache, that never really waits.
func (h *hub) puller(cache string) *puller {
	p, err := newPuller("Org/Tiny", "main")
	if err != nil {
		h.t.Fatal(err)
	}
	p.endpoint, p.token, p.cache = h.server.URL, h.token, cache
	p.progress = &progress{out: &bytes.Buffer{}}
	p.sleep = func(ctx context.Context, d time.Duration) error { return ctx.Err() }
	return p
}

// checkpointFiles is a published checkpoint: what Load reads, and other files.
func checkpointFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{"README.md": "# x", "pytorch_model.bin": "\x80\x02}", ".gitattributes": "*", "onnx/model.onnx": "x"}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

const (
	wholeModel   = "../../testdata/qwen3-tiny"
	shardedModel = "../../testdata/variants/qwen3-bf16-sharded"
)

// tree lists a folder: files with their size, links with their target.
func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if target, err := os.Readlink(path); err == nil {
			name += " -> " + target
		}
		all = append(all, filepath.ToSlash(name))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPull fetches a whole and a sharded checkpoint: exactly the files that Load
// reads, laid out as huggingface_hub does, and a second pull fetches nothing.
func TestPull(t *testing.T) {
	for _, source := range []string{wholeModel, shardedModel} {
		h, cache := newHub(t, checkpointFiles(t, source)), t.TempDir()
		h.files["chat_template.jinja"], h.files["tokenizer_config.json"] = "{{ x }}", "{}"
		h.token = "hf_secret"
		dir, err := h.puller(cache).pull(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"models--Org--Tiny/refs/main"}
		for name, text := range h.files {
			if name == "README.md" || name == ".gitattributes" || strings.Contains(name, "onnx") || strings.Contains(name, "bin") || name == "golden.safetensors" || name == "trace.safetensors" {
				if h.count("/"+name) > 0 {
					t.Errorf("%s was asked for", name)
				}
				continue
			}
			etag := etagOf(name, text)
			want = append(want, "models--Org--Tiny/blobs/"+etag, ".locks/models--Org--Tiny/"+etag+".lock", "models--Org--Tiny/snapshots/"+testCommit+"/"+name+" -> ../../blobs/"+etag)
		}
		slices.Sort(want)
		if got := slices.Sorted(slices.Values(tree(t, cache))); !slices.Equal(got, want) && runtime.GOOS != "windows" {
			t.Errorf("the cache holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if ref, err := os.ReadFile(filepath.Join(cache, "models--Org--Tiny", "refs", "main")); err != nil || string(ref) != testCommit {
			t.Errorf("refs/main is %q, %v", ref, err)
		}
		m, err := qwen.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
		t.Setenv("HF_HUB_CACHE", cache)
		for _, name := range []string{"Org/Tiny", "Org/Tiny@main", "Org/Tiny@" + testCommit} {
			if found, err := findModel(name); err != nil || found != dir {
				t.Errorf("findModel(%s): %s, %v, want %s", name, found, err, dir)
			}
		}
		h.requests = nil
		again, err := h.puller(cache).pull(t.Context())
		if err != nil || again != dir || len(h.requests) != 1 {
			t.Errorf("second pull: %s, %v, with requests %q", again, err, h.requests)
		}
	}
}

// TestPullRevision: the ref has the revision's name, and a commit has none.
func TestPullRevision(t *testing.T) {
	for revision, refs := range map[string][]string{"v1.0": {"v1.0"}, "refs/pr/7": {"refs/pr/7"}, testCommit: nil} {
		h, cache := newHub(t, checkpointFiles(t, wholeModel)), t.TempDir()
		p := h.puller(cache)
		p.revision = revision
		dir, err := p.pull(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		if refs != nil {
			got = tree(t, filepath.Join(cache, "models--Org--Tiny", "refs"))
		} else if _, err := os.Stat(filepath.Join(cache, "models--Org--Tiny", "refs")); err == nil {
			t.Errorf("%s: a ref was written", revision)
		}
		if !slices.Equal(got, refs) {
			t.Errorf("%s: refs %q, want %q", revision, got, refs)
		}
		t.Setenv("HF_HUB_CACHE", cache)
		if found, err := findModel("Org/Tiny@" + revision); err != nil || found != dir {
			t.Errorf("findModel: %s, %v", found, err)
		}
		if _, err := findModel("Org/Tiny"); err == nil {
			t.Error("findModel found main, which was not fetched")
		}
	}
}

// broken tests that a pull that has failed has left nothing that looks whole.
func broken(t *testing.T, cache string) {
	t.Helper()
	for _, name := range tree(t, cache) {
		if strings.Contains(name, "snapshots/") || strings.Contains(name, "refs/") {
			t.Errorf("left behind: %s", name)
		}
		if dir, blob, ok := strings.Cut(name, "/blobs/"); ok && !strings.HasSuffix(blob, ".incomplete") {
			data, err := os.ReadFile(filepath.Join(cache, dir, "blobs", blob))
			sum := sha256.Sum256(data)
			if err != nil || hex.EncodeToString(sum[:]) != blob && etagOf("", string(data)) != blob {
				t.Errorf("%s does not hold what its name says", name)
			}
		}
	}
}

// TestPullRefused has everything that a server can do wrong once and for all.
func TestPullRefused(t *testing.T) {
	status := func(code int) func(h *hub) {
		return func(h *hub) {
			h.override = func(w http.ResponseWriter, r *http.Request) bool { http.Error(w, "<html>", code); return true }
		}
	}
	onFile := func(name string, do func(w http.ResponseWriter, r *http.Request) bool) func(h *hub) {
		return func(h *hub) {
			h.override = func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, "/"+name) && do(w, r)
			}
		}
	}
	header := func(name, key, value string) func(h *hub) {
		return onFile(name, func(w http.ResponseWriter, r *http.Request) bool {
			h := w.Header()
			h.Set("X-Repo-Commit", testCommit)
			h.Set("ETag", `"`+strings.Repeat("a", 40)+`"`)
			h.Set(key, value)
			w.Write([]byte("{}"))
			return true
		})
	}
	info := func(text string) func(h *hub) {
		return func(h *hub) {
			h.override = func(w http.ResponseWriter, r *http.Request) bool {
				fmt.Fprint(w, text)
				return strings.HasPrefix(r.URL.Path, "/api/")
			}
		}
	}
	for name, test := range map[string]struct {
		edit  func(h *hub)
		words []string
	}{
		"401":                      {status(401), []string{"Org/Tiny", "401", "HF_TOKEN"}},
		"403":                      {status(403), []string{"Org/Tiny", "403", "HF_TOKEN"}},
		"404":                      {status(404), []string{"Org/Tiny", "404", `revision "main"`}},
		"400":                      {status(400), []string{"Org/Tiny", "400"}},
		"500 for ever":             {status(500), []string{"Org/Tiny", "500", "6 attempts"}},
		"404 of a file":            {onFile("config.json", func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }), []string{"Org/Tiny/config.json", "404"}},
		"not JSON":                 {info("<html>"), []string{"HF_ENDPOINT"}},
		"no commit":                {info(`{"siblings":[]}`), []string{"commit"}},
		"a commit that is a path":  {info(`{"sha":"../../../../../../tmp/x","siblings":[]}`), []string{"commit"}},
		"a commit of another case": {info(`{"SHA":"` + testCommit + `","siblings":[]}`), []string{"commit"}},
		"two commits":              {info(`{"sha":"` + testCommit + `","sha":"` + testCommit + `","siblings":[]}`), []string{"commit"}},
		"no list of files":         {info(`{"sha":"` + testCommit + `","siblings":null}`), []string{"list of files", "found no siblings"}},
		"a file without a name":    {info(`{"sha":"` + testCommit + `","siblings":[{"rfilename":"a"},{"Rfilename":"b"}]}`), []string{"siblings[1]", "rfilename"}},
		"a name that is a number":  {info(`{"sha":"` + testCommit + `","siblings":[{"rfilename":7}]}`), []string{"siblings[0]", "rfilename"}},
		"an answer without end": {func(h *hub) {
			h.override = func(w http.ResponseWriter, r *http.Request) bool {
				for piece := make([]byte, 1<<20); ; {
					if _, err := w.Write(piece); err != nil {
						return true
					}
				}
			}
		}, []string{"list of files", "more than 67108864 bytes"}},
		"an index that is too large": {func(h *hub) {
			delete(h.files, weightsFile)
			h.files[indexFile] = "{}"
			header(indexFile, "X-Linked-Size", "67108865")(h)
		}, []string{indexFile, "67108865 bytes", "at most 67108864"}},
		"a redirect to another scheme": {func(h *hub) {
			h.override = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, "ftp://127.0.0.1/x", http.StatusFound)
				return true
			}
		}, []string{"redirect from http to ftp"}},
		"416 for ever": {func(h *hub) {
			h.blob = func(w http.ResponseWriter, r *http.Request, text string) {
				if r.Header.Get("Range") == "" && len(text) > 50_000 {
					cut(w, text, 20_000)
				} else if r.Header.Get("Range") != "" {
					w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				} else {
					sendBlob(w, r, text)
				}
			}
		}, []string{weightsFile, "416"}},
		"no config":               {func(h *hub) { delete(h.files, "config.json") }, []string{"config.json"}},
		"no weights":              {func(h *hub) { delete(h.files, weightsFile) }, []string{weightsFile, indexFile}},
		"another commit":          {header("config.json", "X-Repo-Commit", strings.Repeat("b", 40)), []string{"config.json", "X-Repo-Commit"}},
		"an ETag that is a path":  {header("config.json", "ETag", `"../../../x"`), []string{"config.json", "ETag"}},
		"an ETag of another kind": {header("config.json", "ETag", `"abc"`), []string{"config.json", "ETag", "sha256"}},
		"no ETag":                 {header("config.json", "ETag", ""), []string{"config.json", "ETag"}},
		"a size below 0":          {header("config.json", "X-Linked-Size", "-1"), []string{"config.json", "size"}},
		"a size that is none":     {header("config.json", "X-Linked-Size", "many"), []string{"config.json", "size"}},
		"wrong sha1":              {header("config.json", "X-Linked-Size", "2"), []string{"config.json", "hash", strings.Repeat("a", 40)}},
		"more than announced":     {header("config.json", "X-Linked-Size", "1"), []string{"config.json", "more than the 1 bytes"}},
		"wrong sha256": {func(h *hub) {
			h.blob = func(w http.ResponseWriter, r *http.Request, text string) {
				sendBlob(w, r, strings.Replace(text, "\x00\x00", "\x00\x01", 1))
			}
		}, []string{weightsFile, "hash"}},
		"429 for an hour": {func(h *hub) {
			h.override = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Retry-After", "3600")
				http.Error(w, "slowly", http.StatusTooManyRequests)
				return true
			}
		}, []string{"429", "1h0m0s"}},
		"the wrong part": {func(h *hub) {
			n := 0
			h.blob = func(w http.ResponseWriter, r *http.Request, text string) {
				if n++; r.Header.Get("Range") == "" && len(text) > 50_000 {
					cut(w, text, 20_000)
				} else if r.Header.Get("Range") != "" {
					w.Header().Set("Content-Range", "bytes 0-9/10")
					w.WriteHeader(http.StatusPartialContent)
				} else {
					sendBlob(w, r, text)
				}
			}
		}, []string{weightsFile, "Content-Range"}},
	} {
		t.Run(name, func(t *testing.T) {
			h, cache := newHub(t, checkpointFiles(t, wholeModel)), t.TempDir()
			h.token = "hf_secret"
			test.edit(h)
			_, err := h.puller(cache).pull(t.Context())
			if err == nil {
				t.Fatal("pulled, expected an error")
			}
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
			if strings.Contains(err.Error(), "secret") || strings.ContainsAny(err.Error(), "\n") || len(err.Error()) > 1000 {
				t.Errorf("%q: a secret, or more than a line", err)
			}
			broken(t, cache)
			if strings.Contains(name, "sha") { // what is wrong is not kept to be resumed
				if left := strings.Join(tree(t, cache), " "); strings.Contains(left, ".incomplete") {
					t.Errorf("left behind: %s", left)
				}
			}
		})
	}
}

// TestPullNames gives file names that lead out of the snapshot.
func TestPullNames(t *testing.T) {
	for _, name := range []string{"../x", "/etc/passwd", "..", ".", "", "a/../../x", "./x", "a//x", `..\x`, `C:\x`, "a\x00b", "a\nb", "x/", strings.Repeat("x", 300), "not-in-the-repository.safetensors"} {
		h, cache := newHub(t, checkpointFiles(t, shardedModel)), t.TempDir()
		h.files[indexFile] = fmt.Sprintf(`{"weight_map":{"a":%q}}`, name)
		h.files["../x"], h.files["/etc/passwd"], h.files[`..\x`] = "x", "x", "x"
		_, err := h.puller(cache).pull(t.Context())
		if err == nil || !strings.Contains(err.Error(), "Org/Tiny/"+indexFile) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", name, err)
		}
		broken(t, cache)
	}
	for _, text := range []string{"", "{", "[]", "{}", `{"weight_map":{}}`, `{"weight_map":{"a":1}}`, `{"weight_map":null}`} {
		h, cache := newHub(t, checkpointFiles(t, shardedModel)), t.TempDir()
		h.files[indexFile] = text
		if _, err := h.puller(cache).pull(t.Context()); err == nil || !strings.Contains(err.Error(), "weight_map") {
			t.Errorf("index %q: %v", text, err)
		}
		broken(t, cache)
	}
}

// cut sends the first n bytes of a longer text and cuts the connection.
func cut(w http.ResponseWriter, text string, n int) {
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Write([]byte(text[:n]))
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// TestPullResumes has everything that another attempt sets right.
func TestPullResumes(t *testing.T) {
	files := checkpointFiles(t, wholeModel)
	weights := files[weightsFile]
	part := filepath.Join("models--Org--Tiny", "blobs", etagOf(weightsFile, weights)+".incomplete")
	leave := func(text string) func(h *hub, p *puller) {
		return func(h *hub, p *puller) {
			name := filepath.Join(p.cache, part)
			if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	failures := func(n int, fail func(w http.ResponseWriter)) func(h *hub, p *puller) {
		return func(h *hub, p *puller) {
			var served atomic.Int64 // a request that was cut may still be on its way out when the next one comes
			h.override = func(w http.ResponseWriter, r *http.Request) bool {
				if served.Add(1) > int64(n) {
					return false
				}
				fail(w)
				return true
			}
		}
	}
	for name, test := range map[string]struct {
		edit func(h *hub, p *puller)
		want string // a request that must be there
	}{
		"where a pull has stopped":  {leave(weights[:30_000]), "bytes=30000-"},
		"at the last byte":          {leave(weights[:len(weights)-1]), fmt.Sprintf("bytes=%d-", len(weights)-1)},
		"with all of it":            {leave(weights), ""},
		"with more than all of it":  {leave(weights + "xyz"), ""},
		"after damage":              {leave(strings.Repeat("x", 30_000)), "bytes=30000-"},
		"after damage of all of it": {leave(strings.Repeat("x", len(weights))), "GET /" + weightsFile},
		"from a server without ranges": {func(h *hub, p *puller) {
			leave(weights[:30_000])(h, p)
			h.blob = func(w http.ResponseWriter, r *http.Request, text string) { fmt.Fprint(w, text) }
		}, "bytes=30000-"},
		"after the connection was cut": {func(h *hub, p *puller) {
			h.blob = func(w http.ResponseWriter, r *http.Request, text string) {
				if r.Header.Get("Range") == "" && len(text) > 50_000 {
					cut(w, text, 20_000)
				}
				sendBlob(w, r, text)
			}
		}, "bytes=20000-"},
		"after many cuts": {func(h *hub, p *puller) {
			h.blob = func(w http.ResponseWriter, r *http.Request, text string) {
				var from int
				fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
				if left := len(text) - from; left > 3000 {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(text)-1, len(text)))
					w.Header().Set("Content-Length", strconv.Itoa(left))
					if from > 0 {
						w.WriteHeader(http.StatusPartialContent)
					}
					cut(w, text[from:], 3000)
				}
				sendBlob(w, r, text)
			}
		}, "bytes=54000-"},
		"from a server that cannot go on": {func(h *hub, p *puller) {
			leave(weights[:30_000])(h, p)
			h.blob = func(w http.ResponseWriter, r *http.Request, text string) {
				if r.Header.Get("Range") != "" {
					w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
					return
				}
				sendBlob(w, r, text)
			}
		}, "bytes=30000-"},
		"from a server that goes on elsewhere": {func(h *hub, p *puller) {
			leave(weights[:30_000])(h, p)
			h.blob = func(w http.ResponseWriter, r *http.Request, text string) {
				if r.Header.Get("Range") != "" {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes 7-%d/%d", len(text)-1, len(text)))
					w.WriteHeader(http.StatusPartialContent)
					return
				}
				sendBlob(w, r, text)
			}
		}, "bytes=30000-"},
		"after silence in an answer": {func(h *hub, p *puller) {
			p.quiet = 50 * time.Millisecond
			var served atomic.Int64
			h.override = func(w http.ResponseWriter, r *http.Request) bool {
				if served.Add(1) > 2 {
					return false
				}
				fmt.Fprint(w, "{")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return true
			}
		}, ""},
		"after silence in a file": {func(h *hub, p *puller) {
			p.quiet = 50 * time.Millisecond
			h.blob = func(w http.ResponseWriter, r *http.Request, text string) {
				if r.Header.Get("Range") == "" && len(text) > 50_000 {
					w.Header().Set("Content-Length", strconv.Itoa(len(text)))
					io.WriteString(w, text[:20_000])
					w.(http.Flusher).Flush()
					<-r.Context().Done()
					return
				}
				sendBlob(w, r, text)
			}
		}, "bytes=20000-"},
		"without a length": {func(h *hub, p *puller) {
			h.blob = func(w http.ResponseWriter, r *http.Request, text string) {
				w.(http.Flusher).Flush()
				if r.Method != http.MethodHead {
					fmt.Fprint(w, text)
				}
			}
		}, "GET /Org/Tiny/resolve/" + testCommit + "/config.json"},
		"by redirects on the same server": {func(h *hub, p *puller) {
			h.token, p.token = "hf_secret", "hf_secret"
			p.endpoint += "/old"
			h.override = func(w http.ResponseWriter, r *http.Request) bool {
				path, old := strings.CutPrefix(r.URL.Path, "/old")
				if old {
					w.Header().Set("Location", path)
					w.WriteHeader(http.StatusTemporaryRedirect)
				}
				return old
			}
		}, "HEAD /old/Org/Tiny/resolve/"},
		"after 408": {failures(2, func(w http.ResponseWriter) { http.Error(w, "", 408) }), ""},
		"after 429 with a rate": {func(h *hub, p *puller) {
			failures(2, func(w http.ResponseWriter) {
				w.Header().Set("RateLimit", `"api";r=0;t=23`)
				w.Header().Set("Retry-After", "5")
				http.Error(w, "", 429)
			})(h, p)
			p.sleep = func(ctx context.Context, d time.Duration) error {
				if d != 23*time.Second {
					t.Errorf("waited %v, expected 23s", d)
				}
				return nil
			}
		}, ""},
		"after errors of the server":  {failures(4, func(w http.ResponseWriter) { http.Error(w, "", 503) }), ""},
		"after cuts before an answer": {failures(3, func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }), ""},
		"after 429 with a time": {func(h *hub, p *puller) {
			failures(2, func(w http.ResponseWriter) { w.Header().Set("Retry-After", "17"); http.Error(w, "", 429) })(h, p)
			p.sleep = func(ctx context.Context, d time.Duration) error {
				if d != 17*time.Second {
					t.Errorf("waited %v, expected 17s", d)
				}
				return nil
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, cache := newHub(t, files), t.TempDir()
			p := h.puller(cache)
			test.edit(h, p)
			dir, err := p.pull(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, weightsFile)); err != nil || string(got) != weights {
				t.Errorf("%d bytes, %v, expected the %d that the hub has", len(got), err, len(weights))
			}
			if h.count(test.want) == 0 {
				t.Errorf("no request with %q among %q", test.want, h.requests)
			}
			if left := strings.Join(tree(t, cache), " "); strings.Contains(left, "incomplete") || strings.Contains(left, ".tmp") {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

// fullDisk is a file on a disk with room for some bytes more.
type fullDisk struct {
	*os.File
	room *int
}

func (f fullDisk) Write(b []byte) (int, error) {
	if *f.room -= len(b); *f.room < 0 {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, &fs.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return f.File.Write(b)
}

// TestPullFullDisk stops with an error when the disk is full, and goes on when
// there is room again.
func TestPullFullDisk(t *testing.T) {
	h, cache := newHub(t, checkpointFiles(t, wholeModel)), t.TempDir()
	p, room := h.puller(cache), 40_000
	plain := p.openPart
	p.openPart = func(name string) (partFile, error) {
		f, err := plain(name)
		return fullDisk{f.(*os.File), &room}, err
	}
	_, err := p.pull(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Org/Tiny/"+weightsFile) || !strings.Contains(err.Error(), "disk is full") {
		t.Fatalf("%v, expected that the disk is full", err)
	}
	broken(t, cache)
	p.openPart = plain
	dir, err := p.pull(t.Context())
	if err != nil || h.count("GET /model.safetensors bytes=") != 1 {
		t.Fatalf("%v, with requests %q", err, h.requests)
	}
	if m, err := qwen.Load(dir); err != nil {
		t.Error(err)
	} else {
		m.Close()
	}
}

// TestPullTwice runs several pulls at once: each file is fetched once.
func TestPullTwice(t *testing.T) {
	h, cache := newHub(t, checkpointFiles(t, shardedModel)), t.TempDir()
	h.blob = func(w http.ResponseWriter, r *http.Request, text string) {
		time.Sleep(20 * time.Millisecond)
		sendBlob(w, r, text)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := h.puller(cache).pull(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for name := range h.files {
		if n := h.count("GET /" + name); isLarge(name) && n > 1 {
			t.Errorf("%s was fetched %d times", name, n)
		}
	}
	if m, err := qwen.Load(filepath.Join(cache, "models--Org--Tiny", "snapshots", testCommit)); err != nil {
		t.Error(err)
	} else {
		m.Close()
	}
	if left := strings.Join(tree(t, cache), " "); strings.Contains(left, "incomplete") || strings.Contains(left, ".tmp") {
		t.Errorf("left behind: %s", left)
	}
}

// TestPullCancelled stops in the middle of a file.
func TestPullCancelled(t *testing.T) {
	h, cache := newHub(t, checkpointFiles(t, wholeModel)), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	h.blob = func(w http.ResponseWriter, r *http.Request, text string) {
		if len(text) > 50_000 {
			w.Header().Set("Content-Length", strconv.Itoa(len(text)))
			w.Write([]byte(text[:20_000]))
			w.(http.Flusher).Flush()
			cancel()
			<-r.Context().Done()
			return
		}
		sendBlob(w, r, text)
	}
	if _, err := h.puller(cache).pull(ctx); err == nil {
		t.Fatal("no error")
	}
	broken(t, cache)
}

// TestPullIntoSnapshot completes a snapshot that has some of the files.
func TestPullIntoSnapshot(t *testing.T) {
	h, cache := newHub(t, checkpointFiles(t, wholeModel)), t.TempDir()
	dir := filepath.Join(cache, "models--Org--Tiny", "snapshots", testCommit)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.json", "README.md"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(h.files[name]), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := h.puller(cache).pull(t.Context())
	if err != nil || got != dir || h.count("/config.json") != 0 {
		t.Fatalf("%s, %v, with requests %q", got, err, h.requests)
	}
	m, err := qwen.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if _, err := os.Stat(filepath.Join(dir, "README.md")); err != nil {
		t.Error(err)
	}
}

// TestPullDowngrade refuses to go on without encryption.
func TestPullDowngrade(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked without encryption") }))
	defer plain.Close()
	server := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer server.Close()
	p := (&hub{t: t, server: server, token: "hf_secret"}).puller(t.TempDir())
	p.client.Transport = server.Client().Transport
	if _, err := p.pull(t.Context()); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("%v, expected that https is wanted", err)
	}
}

// The token goes to the same server, however its address is written, and to no other.
func TestOrigin(t *testing.T) {
	parse := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, same := range []string{"https://hub.example/", "https://HUB.example:443/a?b", "https://user@hub.example"} {
		if origin(parse(same)) != origin(parse("https://hub.example/x")) {
			t.Errorf("%s is another server", same)
		}
	}
	for _, other := range []string{"http://hub.example/x", "https://hub.example:80/x", "https://a.hub.example/x", "https://hub.example.org/x"} {
		if origin(parse(other)) == origin(parse("https://hub.example/x")) {
			t.Errorf("%s is the same server", other)
		}
	}
}

// TestProgress draws the bar of a terminal.
func TestProgress(t *testing.T) {
	var b bytes.Buffer
	p := &progress{out: &b, terminal: true}
	p.show("model.safetensors", 500_000, 1_000_000)
	p.note("a\nnote")
	p.done("model.safetensors", 1_000_000)
	for _, want := range []string{"[===============               ]  50% of 1.0 MB\na note\n", "100% of 1.0 MB\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q lacks %q", b.String(), want)
		}
	}
}

// TestPullSettings reads the environment as huggingface_hub does.
func TestPullSettings(t *testing.T) {
	home := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(home, name)
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return name
	}
	write("token", "hf_home\n")
	other := write("other", " hf_other\r\n")
	for _, test := range []struct {
		env  string
		want string // the token, or a word of the error
	}{
		{"HF_TOKEN=hf_a HUGGING_FACE_HUB_TOKEN=hf_b", "hf_a"},
		{"HUGGING_FACE_HUB_TOKEN=hf_b", "hf_b"},
		{"", "hf_home"},
		{"HF_TOKEN_PATH=" + other, "hf_other"},
		{"HF_TOKEN_PATH=" + other + " HF_HUB_DISABLE_IMPLICIT_TOKEN=true", ""},
		{"HF_TOKEN_PATH=" + filepath.Join(home, "none"), ""},
		{"HF_TOKEN_PATH=" + home, home + ": found no regular file"},
		{"HF_TOKEN=a\x01b", "HF_TOKEN: found a character"},
		{"HF_TOKEN=ä", "HF_TOKEN: found a character"},
		{"HF_ENDPOINT=ftp://127.0.0.1", "HF_ENDPOINT: "},
		{"HF_ENDPOINT=127.0.0.1", "HF_ENDPOINT: "},
		{"HF_ENDPOINT=https://", "HF_ENDPOINT: "},
	} {
		t.Run("", func(t *testing.T) {
			for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_ENDPOINT"} {
				t.Setenv(name, "")
			}
			t.Setenv("HF_HOME", home)
			for setting := range strings.FieldsSeq(test.env) {
				name, value, _ := strings.Cut(setting, "=")
				t.Setenv(name, value)
			}
			p, err := newPuller("Org/Tiny", "main")
			if err != nil && (!strings.Contains(test.want, ": ") || !strings.HasPrefix(err.Error(), test.want)) || err == nil && p.token != test.want {
				t.Errorf("%q: %v, %v, expected %q", test.env, p, err, test.want)
			}
		})
	}
}

// TestPullNoFolder has a file where the cache should be.
func TestPullNoFolder(t *testing.T) {
	h, file := newHub(t, checkpointFiles(t, wholeModel)), filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HF_HUB_CACHE", file)
	t.Setenv("HF_ENDPOINT", h.server.URL)
	if _, stderr, status := do(t, "", "pull", "Org/Tiny"); status != 1 || !strings.Contains(stderr, "qwen: "+file+": mkdir: ") {
		t.Errorf("status %d, %q", status, stderr)
	}
}

// TestPullOffline asks nobody: what is in the cache is found, what is not is an error.
func TestPullOffline(t *testing.T) {
	h, cache := newHub(t, checkpointFiles(t, wholeModel)), t.TempDir()
	dir, err := h.puller(cache).pull(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.requests = nil
	t.Setenv("HF_HUB_CACHE", cache)
	t.Setenv("HF_ENDPOINT", h.server.URL)
	for _, name := range []string{"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} {
		t.Setenv(name, "yes")
		if stdout, stderr, status := do(t, "", "pull", "Org/Tiny"); stdout != dir+"\n" || status != 0 {
			t.Errorf("%s: status %d, %q, %q, expected %s", name, status, stdout, stderr, dir)
		}
		if _, stderr, status := do(t, "", "pull", "Org/Tiny", "-revision", "v1"); status != 1 || !strings.HasPrefix(stderr, "qwen: Org/Tiny: ") || !strings.Contains(stderr, "HF_HUB_OFFLINE") {
			t.Errorf("%s: status %d, %q", name, status, stderr)
		}
		t.Setenv(name, "")
	}
	if len(h.requests) > 0 {
		t.Errorf("asked: %q", h.requests)
	}
}

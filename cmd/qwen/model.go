package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/bc1a8f18/qwen"
	"github.com/bc1a8f18/qwen/tiny"
)

// modelFlag defines -model and returns what loads it.
func modelFlag(f *flag.FlagSet) func() (*qwen.Model, error) {
	name := textFlag(f, "model", "a folder or a repository name", "checkpoint `folder` or repository name (default: the embedded model)")
	return func() (*qwen.Model, error) {
		if *name == "" {
			return qwen.LoadFS(tiny.FS)
		}
		dir, err := findModel(*name)
		if err != nil {
			return nil, err
		}
		defer waiting(func() string { return "loading " + printable(clip(*name)) })()
		m, err := qwen.Load(dir)
		collectEarly()
		return m, err
	}
}

// collectEarly has garbage collected when it is a tenth of what lives, and not as much:
// what lives is the cache of a conversation, and the weights are no part of Go's heap.
func collectEarly() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(10)
	}
}

// repository is the form of a name on the hub.
var repository = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*/[\w.-]+$`)

// isRepository says whether name may be one on the hub.
func isRepository(name string) bool {
	return repository.MatchString(name) && !strings.Contains(name, "..")
}

// findModel returns the folder of a checkpoint: name itself, or the snapshot of
// that repository in the Hugging Face cache, of NAME@REVISION or else of main.
func findModel(name string) (string, error) {
	if info, err := os.Stat(name); err == nil && !info.IsDir() {
		return "", fmt.Errorf("%s: found a file, expected a checkpoint folder", name)
	} else if err == nil {
		return name, nil
	}
	repo, revision, found := strings.Cut(name, "@")
	if !found {
		revision = "main"
	}
	if !isRepository(repo) || !isLocalName(revision) {
		return "", fmt.Errorf("%s: no such folder, expected a checkpoint folder or a repository name", name)
	}
	dir, found := cached(repo, revision)
	if !found {
		return "", fmt.Errorf("%s: no such folder, and not in the Hugging Face cache %s (qwen pull %s fetches it)", name, hubCache(), repo)
	}
	return dir, nil
}

// cached returns the folder of a revision in the Hugging Face cache, if it is there.
func cached(repo, revision string) (dir string, found bool) {
	folder := repositoryFolder(hubCache(), repo)
	commit := revision
	if ref, err := readFile(filepath.Join(folder, "refs", filepath.FromSlash(revision)), 1<<10); err == nil {
		commit = strings.TrimSpace(string(ref))
	}
	dir = filepath.Join(folder, "snapshots", commit)
	_, err := os.Stat(dir)
	return dir, err == nil && commitForm.MatchString(commit)
}

// repositoryFolder is where a repository lies in a cache.
func repositoryFolder(cache, repo string) string {
	return filepath.Join(cache, "models--"+strings.ReplaceAll(repo, "/", "--"))
}

// hubCache is where Hugging Face's libraries keep what they fetched.
func hubCache() string {
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"} {
		if dir := os.Getenv(name); dir != "" {
			return expandHome(dir)
		}
	}
	return filepath.Join(hubHome(), "hub")
}

// hubHome is where they keep everything.
func hubHome() string {
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return expandHome(dir)
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "."
		}
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "huggingface")
}

// expandHome reads ~ at the beginning of a path as Hugging Face's libraries do.
func expandHome(dir string) string {
	if rest, ok := strings.CutPrefix(dir, "~"); ok && (rest == "" || rest[0] == '/') {
		if home, err := os.UserHomeDir(); err == nil {
			return home + rest
		}
	}
	return dir
}

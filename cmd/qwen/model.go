package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/bc1a8f18/qwen"
	"github.com/bc1a8f18/qwen/tiny"
)

// modelFlag defines -model and returns what loads it.
func modelFlag(f *flag.FlagSet) func() (*qwen.Model, error) {
	name := f.String("model", "", "checkpoint `folder` or repository name (default: the embedded model)")
	return func() (*qwen.Model, error) {
		if *name == "" {
			return qwen.LoadFS(tiny.FS)
		}
		dir, err := findModel(*name)
		if err != nil {
			return nil, err
		}
		return qwen.Load(dir)
	}
}

// repository is the form of a name on the hub.
var repository = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*/[\w.-]+$`)

// findModel returns the folder of a checkpoint: name itself, or the snapshot of
// that repository in the Hugging Face cache.
func findModel(name string) (string, error) {
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	if !repository.MatchString(name) {
		return "", fmt.Errorf("%s: no such folder, expected a checkpoint folder or a repository name", name)
	}
	repo := filepath.Join(hubCache(), "models--"+strings.ReplaceAll(name, "/", "--"))
	commit, err := os.ReadFile(filepath.Join(repo, "refs", "main"))
	if err != nil {
		return "", fmt.Errorf("%s: no such folder, and not in the Hugging Face cache %s", name, hubCache())
	}
	return filepath.Join(repo, "snapshots", strings.TrimSpace(string(commit))), nil
}

// hubCache is where Hugging Face's libraries keep what they fetched.
func hubCache() string {
	if dir := os.Getenv("HF_HUB_CACHE"); dir != "" {
		return dir
	}
	if dir := os.Getenv("HF_HOME"); dir != "" {
		return filepath.Join(dir, "hub")
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "."
		}
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "huggingface", "hub")
}

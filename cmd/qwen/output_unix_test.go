//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bc1a8f18/qwen"
	"golang.org/x/sys/unix"
)

// A reader that has seen enough ends the command as it ends others, without a word.
func TestClosedPipe(t *testing.T) {
	c, _, stderr := testCommand("", "inspect")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	c.Stdout = write
	c.Run()
	write.Close()
	if status := c.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGPIPE || stderr.Len() > 0 {
		t.Errorf("%v, stderr %q, expected SIGPIPE", c.ProcessState, stderr)
	}
}

// trace -o writes through a device, a pipe or a link, and leaves it where it is.
func TestTraceIntoOthers(t *testing.T) {
	dir := t.TempDir()
	link, target, pipe, file := filepath.Join(dir, "link"), filepath.Join(dir, "target"), filepath.Join(dir, "pipe"), filepath.Join(dir, "file")
	full := filepath.Join(dir, "full")
	for _, err := range []error{os.Symlink(target, link), os.Symlink("/dev/full", full), unix.Mkfifo(pipe, 0o666)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	go func() { // who reads the pipe
		if data, err := os.ReadFile(pipe); err == nil {
			os.WriteFile(file, data, 0o666)
		}
	}()
	for _, name := range []string{link, pipe, full, "/dev/full", "/dev/null", "/dev/stdout"} {
		before, err := os.Lstat(name)
		if err != nil {
			t.Skip(err)
		}
		_, stderr, status := do(t, "", "trace", "-model", wholeModel, "-ids", "1", "-o", name)
		if after, err := os.Lstat(name); err != nil || before.Mode().Type() != after.Mode().Type() {
			t.Fatalf("%s: was %v, is %v, %v", name, before, after, err)
		}
		if fails := strings.HasSuffix(name, "full"); (status == 1) != fails || fails && !strings.HasPrefix(stderr, "qwen: "+name+": ") {
			t.Errorf("%s: status %d, %q", name, status, stderr)
		}
	}
	for _, name := range []string{target, file} {
		var err error
		for range 100 { // the pipe's reader may not be done
			if _, err = qwen.ReadRecording(name); err == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// A cache that others may write to: no blob is filled through a link, a pipe or a device.
func TestPullPartNotRegular(t *testing.T) {
	for kind, make := range map[string]func(name, target string) error{
		"link":   func(name, target string) error { return os.Symlink(target, name) },
		"pipe":   func(name, target string) error { return unix.Mkfifo(name, 0o666) },
		"folder": func(name, target string) error { return os.Mkdir(name, 0o777) },
	} {
		h, cache := newHub(t, checkpointFiles(t, wholeModel)), t.TempDir()
		target := filepath.Join(t.TempDir(), "target")
		if err := os.WriteFile(target, []byte("mine"), 0o666); err != nil {
			t.Fatal(err)
		}
		part := filepath.Join(cache, "models--Org--Tiny", "blobs", etagOf(weightsFile, h.files[weightsFile])+".incomplete")
		if err := os.MkdirAll(filepath.Dir(part), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := make(part, target); err != nil {
			t.Fatal(err)
		}
		if _, err := h.puller(cache).pull(t.Context()); err == nil || !strings.HasPrefix(err.Error(), part+": ") {
			t.Errorf("%s: %v, expected an error of %s", kind, err, part)
		}
		if text, err := os.ReadFile(target); string(text) != "mine" {
			t.Errorf("%s: %q, %v: written to", kind, text, err)
		}
	}
}

// The locks have the mode that Python gives them, whatever the umask.
func TestPullLockMode(t *testing.T) {
	before := unix.Umask(0o077)
	defer unix.Umask(before)
	p := newHub(t, nil).puller(t.TempDir())
	unlock, err := p.lock(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	info, err := os.Stat(filepath.Join(p.cache, ".locks", "models--Org--Tiny", "x.lock"))
	if err != nil || info.Mode().Perm() != 0o664 {
		t.Errorf("%v, %v, expected mode 0664", info.Mode(), err)
	}
}

// A table of names that never ends, or never comes, is refused before it is read.
func TestRenamesNotRegular(t *testing.T) {
	pipe, large := filepath.Join(t.TempDir(), "pipe"), filepath.Join(t.TempDir(), "large")
	if err := unix.Mkfifo(pipe, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, make([]byte, maxRenames+1), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{pipe: "found no regular file", "/dev/zero": "found no regular file", large: "expected at most 1048576"} {
		if _, err := readRenames(name); err == nil || !strings.HasPrefix(err.Error(), name+": "+want) && !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v, expected %s", err, want)
		}
	}
}

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

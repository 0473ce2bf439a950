package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal returns the two ends of a terminal: what a person sees and types at, and
// what the program has.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skip(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skip(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// A conversation at a terminal: a key at a time, an earlier message brought back,
// Ctrl-C at the prompt, Ctrl-D at the end.
func TestChatAtATerminal(t *testing.T) {
	person, program := terminal(t)
	c, stdout, _ := testCommand("", "chat", "-temp", "0")
	c.Stdin, c.Stderr = program, program
	c.Env = append(c.Env, "TERM=xterm")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	seen := make(chan []byte, 1000)
	go func() {
		for {
			piece := make([]byte, 4096)
			n, err := person.Read(piece)
			if err != nil {
				return
			}
			seen <- piece[:n]
		}
	}()
	screen := "" // what has not been looked at
	await := func(want string) {
		t.Helper()
		for !strings.Contains(screen, want) {
			select {
			case piece := <-seen:
				screen += string(piece)
			case <-time.After(30 * time.Second):
				t.Fatalf("%q did not come: %q", want, screen)
			}
		}
		_, screen, _ = strings.Cut(screen, want)
	}
	for _, step := range []struct{ keys, want string }{
		{"", prompt},
		{"What does RMSNorm do\x7fo?\r", "> What does RMSNorm do?"},
		{"", "\x1b[?2004h"}, // the answer has come, and a new prompt
		{"\x1b[A", "> What does RMSNorm do?"},
		{"\x03", "[Ctrl-D leaves]"},
		{"", "\x1b[?2004h"},
	} {
		if _, err := person.WriteString(step.keys); err != nil {
			t.Fatal(err)
		}
		await(step.want)
	}
	person.WriteString("\x04")
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %q", err, screen)
	}
	if !strings.HasPrefix(stdout.String(), "RMSNorm rescales") || strings.Contains(stdout.String(), "\x1b") {
		t.Errorf("stdout %q", stdout.String())
	}
}

package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a terminal gets of a name from a file: nothing that it would obey.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"model.layers.0": "model.layers.0",
		"世界 🦜 é\uFFFD":   "世界 🦜 é\uFFFD",
		"\x1b[2J\a\x7f":  `\x1b[2J\a\x7f`,
		"a\u202eb\u0085": `a\u202eb\u0085`,
		"\xff\xc3a\nb":   `\xff\xc3a\nb`,
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: %s, expected %s", text, got, want)
		}
	}
}

// A file is replaced when all of the new one is there.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "x")
	write := func(text string, err error) error {
		return writeFile(name, func(w io.Writer) error {
			io.WriteString(w, text)
			return err
		})
	}
	if err := write("first", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, failed := range []error{errors.New("no more"), nil} {
		want := "first"
		if failed == nil {
			want = "second"
		}
		err := write("second", failed)
		if (err == nil) != (failed == nil) || err != nil && err.Error() != name+": cannot be written: no more, expected a file that may be written" {
			t.Errorf("%v, expected %v", err, failed)
		}
		if got, err := os.ReadFile(name); string(got) != want {
			t.Errorf("%q, %v, expected %q", got, err, want)
		}
		info, err := os.Stat(name)
		if all, _ := os.ReadDir(dir); err != nil || info.Mode().Perm()&0o007 != 0 || len(all) != 1 {
			t.Errorf("%v, %v: mode, or something left behind", info, all)
		}
	}
}

// Results that could not be written are an error of every command.
func TestFullStdout(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, args := range [][]string{
		{"-h"}, {"run", "-h"}, {"run", "x", "-n", "3"}, {"x", "-n", "3", "-json"}, {"run", "-model", wholeModel, "-ids", "1"},
		{"tokenize"}, {"tokenize", "-decode"}, {"inspect", "-layer", "0"}, {"inspect", "-layer", "0", "-json"},
		{"render", "-template", "qwen3"}, {"bench", "-prompt", "1", "-n", "1"}, {"diff", "-model", wholeModel, wholeModel + "/trace.safetensors"},
	} {
		stdin := "1"
		if args[0] == "render" {
			stdin = `[{"messages":[{"role":"user","content":"x"}]}]`
		}
		c, _, stderr := testCommand(stdin, args...)
		c.Stdout = full
		c.Run()
		if status := c.ProcessState.ExitCode(); status != 1 || strings.Count(stderr.String(), "\n") != 1 || !strings.HasPrefix(stderr.String(), "qwen: stdout: ") {
			t.Errorf("%q: status %d, stderr %q", args, status, stderr)
		}
	}
}

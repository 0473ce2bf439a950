package main

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// stdout is where results go.
var stdout = &results{file: os.Stdout}

// results remembers the first error of writing, so that what prints in many places
// need not look at each: a result that is not there whole is an error of the command.
// A pipe whose reader has gone ends the program before that, by SIGPIPE.
type results struct {
	file *os.File
	err  error
}

func (r *results) Write(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.file.Write(p)
	if err != nil {
		r.err = fmt.Errorf("stdout: cannot be written: %s", reason(err))
	}
	return n, r.err
}

// printJSON writes v as the one document of stdout.
func printJSON(v any) error {
	e := json.NewEncoder(stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// reason is an error of the system without the path, which the message begins with.
func reason(err error) string {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return err.Error()
}

// oneLine is an error's text without the library's prefix and without line ends.
func oneLine(s string) string {
	return printable(strings.Join(strings.Fields(strings.TrimPrefix(s, "qwen: ")), " "))
}

// printable escapes what a terminal would obey or not show: names come from files and
// from servers.
func printable(s string) string {
	var out strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&out, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			out.WriteRune(r)
		default:
			out.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return out.String()
}

// clip cuts a text that may quote the input for a message.
func clip(s string) string {
	const most = 200 // bytes
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// writeFile writes what write gives to the file of that name. A regular file is
// replaced when all of the new one is there, so a write that fails leaves what was
// there before. Anything else, a device, a pipe or a link, is written to as it is.
func writeFile(name string, write func(w io.Writer) error) error {
	problem := func(err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s: cannot be written: %s, expected a file that may be written", name, reason(err))
	}
	before, err := os.Lstat(name)
	if err == nil && !before.Mode().IsRegular() {
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666) // through a link to nothing as well
		if err != nil {
			return problem(err)
		}
		return problem(fill(file, write))
	} else if err == nil {
		file, err := os.OpenFile(name, os.O_WRONLY, 0) // renaming would not ask whether it may be written
		if err != nil {
			return problem(err)
		}
		file.Close()
	}
	temp := filepath.Join(filepath.Dir(name), ".qwen-"+rand.Text())
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return problem(err)
	}
	defer os.Remove(temp)
	if before != nil {
		file.Chmod(before.Mode().Perm())
	}
	if err := fill(file, write); err != nil {
		return problem(err)
	}
	return problem(os.Rename(temp, name))
}

// fill writes all of a file and closes it.
func fill(file *os.File, write func(w io.Writer) error) error {
	w := bufio.NewWriterSize(file, 1<<20)
	err := write(w)
	if err == nil {
		err = w.Flush()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

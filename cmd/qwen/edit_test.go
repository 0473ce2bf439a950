package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

const (
	keyUp, keyDown, keyLeft, keyRight = "\x1b[A", "\x1b[B", "\x1b[D", "\x1b[C"
	keyHome, keyDelete, keyAltEnter   = "\x1b[H", "\x1b[3~", "\x1b\r"
)

// Messages as somebody types them on a terminal.
func TestEditor(t *testing.T) {
	for _, test := range []struct{ name, keys, want string }{
		{"a line", "abc\r", "abc"},
		{"a newline is Enter too", "abc\n", "abc"},
		{"UTF-8", "héllo 世界🦜\r", "héllo 世界🦜"},
		{"backspace", "abx\x7fc\r", "abc"},
		{"backspace at the beginning", "\x7fab\r", "ab"},
		{"arrows", "ac" + keyLeft + "b" + keyRight + "d\r", "abcd"},
		{"home, delete, end", "xbc" + keyHome + keyDelete + "a\x05d\r", "abcd"},
		{"to the beginning, to the end", "abc def" + keyLeft + "\x15\x0bx\r", "x"},
		{"a word", "one two\x17three\r", "one three"},
		{"word by word", "one two" + "\x1b[1;5D" + "\x1bb" + "\x1bf" + "!\r", "one! two"},
		{"a backslash before Enter", "one\\\rtwo\r", "one\ntwo"},
		{"Alt-Enter", "one" + keyAltEnter + "two\r", "one\ntwo"},
		{"home of the second line", "one\\\rtwo" + keyHome + "x\r", "one\nxtwo"},
		{"pasted", "say: \x1b[200~a\r\nb\rc\x07\x1b[201~!\r", "say: a\nb\nc!"},
		{"a key that is not known", "a\x1b[99zb\x00c\r", "abc"},
		{"the message before", "first\rsecond\r" + keyUp + keyUp + "!\r", "first!"},
		{"back to the new one", "first\rnew" + keyUp + keyDown + "!\r", "new!"},
		{"no message before the first", keyUp + "a\r", "a"},
		{"Ctrl-C", "abc\x03", "interrupted"},
		{"Ctrl-D", "\x04", "EOF"},
		{"Ctrl-D is delete where there is something", "abc" + keyHome + "\x04\r", "bc"},
		{"the terminal is gone", "abc", "EOF"},
	} {
		for _, columns := range []int{80, 10, 0} {
			var screen strings.Builder
			source := strings.NewReader(test.keys)
			keys := io.Reader(source) // all at once, or one after the other
			if columns == 10 {
				keys = iotest.OneByteReader(source)
			}
			e := &editor{in: bufio.NewReader(keys), out: &screen, size: func() (int, int) { return columns, columns / 4 }}
			var got string
			for source.Len() > 0 || e.in.Buffered() > 0 || got == "" {
				text, err := e.read()
				if got = text; errors.Is(err, errInterrupted) || err == io.EOF {
					got = err.Error()
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if got != test.want {
				t.Errorf("%s, %d columns: %q, expected %q", test.name, columns, got, test.want)
			}
		}
	}
}

// What the terminal shows: lines are broken at its width, where a wide character
// takes two columns.
func TestEditorDraws(t *testing.T) {
	var screen strings.Builder
	e := &editor{out: &screen, size: func() (int, int) { return 10, 24 }}
	e.insert("12345678世a")
	e.draw()
	want := "\r\x1b[K> 12345678\r\n\r\x1b[K世a\r\x1b[3C"
	if screen.String() != want || e.row != 1 {
		t.Errorf("%q, row %d, expected %q, row 1", screen.String(), e.row, want)
	}
	screen.Reset()
	e.at = 0
	e.draw()
	if want := "\x1b[1A\r\x1b[K> 12345678\r\n\r\x1b[K世a\x1b[1A\r\x1b[2C"; screen.String() != want || e.row != 0 {
		t.Errorf("%q, row %d, expected %q, row 0", screen.String(), e.row, want)
	}
}

// A screen does what a terminal does with the few things that an editor writes, and
// keeps what scrolls off its top.
type screen struct {
	height      int
	lines       [][]rune
	row, column int
}

func (s *screen) Write(p []byte) (int, error) {
	for text := string(p); text != ""; {
		var n int
		var command rune
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == '\x1b':
			if k, _ := fmt.Sscanf(text, "\x1b[%d%c", &n, &command); k < 2 {
				n, command = 0, rune(text[2])
			}
			size = strings.IndexRune(text, command) + 1
			switch command {
			case 'A':
				s.row = max(s.row-n, len(s.lines)-s.height, 0)
			case 'C':
				s.column += n
			case 'J', 'K':
				s.lines[s.row] = s.lines[s.row][:s.column]
				if command == 'J' {
					s.lines = s.lines[:s.row+1]
				}
			}
		case r == '\r':
			s.column = 0
		case r == '\n':
			s.row++
		default:
			s.lines[s.row] = append(s.lines[s.row][:s.column], r)
			s.column++
		}
		if s.row == len(s.lines) {
			s.lines = append(s.lines, nil)
		}
		text = text[size:]
	}
	return len(p), nil
}

func (s *screen) text() string {
	var all []string
	for _, line := range s.lines {
		all = append(all, string(line))
	}
	return strings.Join(all, "\n")
}

// A pasted text taller than the screen: each key draws it again, and what has been
// left of it at the end is one copy. (It was one for each key.)
func TestEditorTallText(t *testing.T) {
	var text []string
	for i := range 30 {
		text = append(text, fmt.Sprint("line ", i))
	}
	keys := "\x1b[200~" + strings.Join(text, "\n") + "\x1b[201~abc" + strings.Repeat(keyLeft, 100) + "d" + keyHome + keyUp + "\r"
	for _, height := range []int{1, 5, 24, 31, 40} {
		s := &screen{height: height, lines: make([][]rune, 1)}
		e := &editor{in: bufio.NewReader(iotest.OneByteReader(strings.NewReader(keys))), out: s, size: func() (int, int) { return 80, height }}
		got, err := e.read()
		if err != nil {
			t.Fatal(err)
		}
		if want := prompt + strings.ReplaceAll(got, "\n", "\n"+indent) + "\n"; s.text() != want {
			t.Errorf("height %d: the terminal shows\n%s\nexpected\n%s", height, s.text(), want)
		}
	}
}

// A terminal that becomes narrower, and wider again, while somebody writes: the text is
// there once. (Each change of width had left a copy of it behind.)
func TestEditorResize(t *testing.T) {
	for _, at := range []int{50, 30, 12, 0} {
		columns := 30
		s := &screen{height: 24, lines: make([][]rune, 1)}
		e := &editor{out: s, size: func() (int, int) { return columns, s.height }}
		e.insert(strings.Repeat("0123456789", 5))
		e.at = at
		e.draw()
		for _, columns = range []int{16, 10, 40, 16, 80} {
			s.narrow(columns)
			e.draw()
		}
		e.leave()
		if want := prompt + string(e.text) + "\n"; s.text() != want {
			t.Errorf("cursor at %d: the terminal shows\n%s\nexpected\n%s", at, s.text(), want)
		}
	}
}

// narrow breaks each line of the screen anew, as a terminal does.
func (s *screen) narrow(columns int) {
	var lines [][]rune
	row, column := 0, s.column
	for i, line := range s.lines {
		if i == s.row {
			row, column = len(lines)+s.column/columns, s.column%columns
		}
		for len(line) > columns {
			lines, line = append(lines, line[:columns:columns]), line[columns:]
		}
		lines = append(lines, line)
	}
	s.lines, s.row, s.column = lines, row, column
}

// Without a terminal: nothing but answers on stdout, no colours, no keys.
func TestChatWithoutTerminal(t *testing.T) {
	stdout, stderr, status := do(t, "What does RMSNorm do?\n/reset\n/nothing\n\nWhat does\\\nRMSNorm do?", "chat", "-temp", "0")
	if status != 0 || strings.Count(stdout, "RMSNorm rescales") < 1 || strings.Contains(stdout+stderr, "\x1b") {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
	for _, want := range []string{"built-in model", "/reset forgets", "[a new conversation]", "[there is no /nothing"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr %q, expected %q in it", stderr, want)
		}
	}
}

func TestThoughtsAreDimmed(t *testing.T) {
	for _, on := range []bool{true, false} {
		dim := thoughts{on: on}
		got := fmt.Sprint(dim.show("<think>"), dim.show("a"), dim.show("</think>"), dim.show("b"), dim.end())
		want := "<think>a</think>b"
		if on {
			want = "\x1b[2m<think>a</think>\x1b[0mb"
		}
		if got != want {
			t.Errorf("%v: %q, expected %q", on, got, want)
		}
	}
}

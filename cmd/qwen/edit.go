package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// An editor reads messages from a terminal, one key at a time, because a terminal
// by itself knows no arrow keys, no earlier messages, and sends a pasted text line
// by line as if each were a message.
type editor struct {
	in      *bufio.Reader
	out     io.Writer
	columns func() int // of the terminal
	history []string

	text []rune
	at   int    // where the cursor is, 0 to len(text)
	past int    // which message of the history is shown; len(history): none, text is new
	new  string // the new text while an old one is shown
	row  int    // of the screen where the cursor was put, counted from the prompt's
}

// errInterrupted says that Ctrl-C was pressed.
var errInterrupted = errors.New("interrupted")

const prompt, indent = "> ", "  "

// read lets the user write a message. It returns io.EOF for Ctrl-D on an empty
// line and errInterrupted for Ctrl-C.
func (e *editor) read() (string, error) {
	e.text, e.at, e.row, e.past = nil, 0, 0, len(e.history)
	for {
		e.draw()
		key, err := readKey(e.in)
		if err != nil {
			return "", err
		}
		switch done, err := e.press(key); {
		case err != nil:
			e.leave()
			return "", err
		case done:
			e.leave()
			text := strings.TrimSpace(string(e.text))
			if text != "" && (len(e.history) == 0 || e.history[len(e.history)-1] != text) {
				e.history = append(e.history, text)
			}
			return text, nil
		}
	}
}

// press does what a key asks for, and says whether the message is complete.
func (e *editor) press(key string) (done bool, err error) {
	switch key {
	case "ctrl-c":
		return false, errInterrupted
	case "ctrl-d":
		if len(e.text) == 0 {
			return false, io.EOF
		}
		e.remove(e.at, e.at+1)
	case "enter":
		if e.at == 0 || e.text[e.at-1] != '\\' {
			return true, nil
		}
		e.remove(e.at-1, e.at)
		e.insert("\n")
	case "alt-enter":
		e.insert("\n")
	case "backspace":
		e.remove(e.at-1, e.at)
	case "delete":
		e.remove(e.at, e.at+1)
	case "left":
		e.at = max(e.at-1, 0)
	case "right":
		e.at = min(e.at+1, len(e.text))
	case "home":
		e.at = e.lineStart()
	case "end":
		e.at = e.lineEnd()
	case "word-left":
		e.at = e.wordStart()
	case "word-right":
		for e.at < len(e.text) && unicode.IsSpace(e.text[e.at]) {
			e.at++
		}
		for e.at < len(e.text) && !unicode.IsSpace(e.text[e.at]) {
			e.at++
		}
	case "ctrl-u":
		e.remove(e.lineStart(), e.at)
	case "ctrl-k":
		e.remove(e.at, e.lineEnd())
	case "ctrl-w":
		e.remove(e.wordStart(), e.at)
	case "ctrl-l":
		fmt.Fprint(e.out, "\x1b[H\x1b[2J")
		e.row = 0
	case "up":
		e.show(e.past - 1)
	case "down":
		e.show(e.past + 1)
	default:
		if text, ok := strings.CutPrefix(key, "text "); ok {
			e.insert(text)
		}
	}
	return false, nil
}

func (e *editor) insert(text string) {
	e.text = slices.Insert(e.text, e.at, []rune(text)...)
	e.at += len([]rune(text))
}

// remove deletes text[from:to], as far as there is one, and leaves the cursor there.
func (e *editor) remove(from, to int) {
	from, to = max(from, 0), min(to, len(e.text))
	if from < to {
		e.text, e.at = slices.Delete(e.text, from, to), from
	}
}

func (e *editor) lineStart() int {
	at := e.at
	for at > 0 && e.text[at-1] != '\n' {
		at--
	}
	return at
}

func (e *editor) lineEnd() int {
	at := e.at
	for at < len(e.text) && e.text[at] != '\n' {
		at++
	}
	return at
}

func (e *editor) wordStart() int {
	at := e.at
	for at > 0 && unicode.IsSpace(e.text[at-1]) {
		at--
	}
	for at > 0 && !unicode.IsSpace(e.text[at-1]) {
		at--
	}
	return at
}

// show puts message i of the history, or the new one behind them, in place of the text.
func (e *editor) show(i int) {
	if i < 0 || i > len(e.history) {
		return
	}
	if e.past == len(e.history) {
		e.new = string(e.text)
	}
	e.past = i
	text := e.new
	if i < len(e.history) {
		text = e.history[i]
	}
	e.text = []rune(text)
	e.at = len(e.text)
}

// draw writes prompt and text over what the last draw wrote, and puts the cursor
// in its place. Lines are broken here, not by the terminal, so that the row is known.
func (e *editor) draw() {
	var s strings.Builder
	if e.row > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", e.row)
	}
	s.WriteString("\r\x1b[J" + prompt)
	columns := max(e.columns(), 10)
	row, column := 0, len(prompt)
	cursorRow, cursorColumn := 0, column
	for i := 0; i <= len(e.text); i++ {
		cells := 1 // the cursor needs a cell, too, at the end of the text
		if i < len(e.text) {
			cells = cellsOf(e.text[i])
		}
		if column+cells > columns {
			s.WriteString("\r\n")
			row, column = row+1, 0
		}
		if i == e.at {
			cursorRow, cursorColumn = row, column
		}
		if i == len(e.text) {
			break
		}
		if e.text[i] == '\n' {
			s.WriteString("\r\n" + indent)
			row, column = row+1, len(indent)
			continue
		}
		if e.text[i] == '\t' {
			s.WriteByte(' ')
		} else {
			s.WriteRune(e.text[i])
		}
		column += cells
	}
	if row > cursorRow {
		fmt.Fprintf(&s, "\x1b[%dA", row-cursorRow)
	}
	s.WriteByte('\r')
	if cursorColumn > 0 { // 0 would move by one as well
		fmt.Fprintf(&s, "\x1b[%dC", cursorColumn)
	}
	e.row = cursorRow
	io.WriteString(e.out, s.String())
}

// leave moves below the text.
func (e *editor) leave() {
	e.at = len(e.text)
	e.draw()
	io.WriteString(e.out, "\r\n")
}

// cellsOf is how many columns a terminal gives a character.
func cellsOf(r rune) int {
	switch {
	case r < ' ' || unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case width.LookupRune(r).Kind() == width.EastAsianWide, width.LookupRune(r).Kind() == width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// controls are the names of keys that send one byte.
var controls = map[rune]string{
	1: "home", 2: "left", 3: "ctrl-c", 4: "ctrl-d", 5: "end", 6: "right", 8: "backspace", '\n': "enter", 11: "ctrl-k", 12: "ctrl-l",
	'\r': "enter", 14: "down", 16: "up", 21: "ctrl-u", 23: "ctrl-w", 127: "backspace",
}

// sequences are those that send more than one, behind ESC.
var sequences = map[string]string{
	"[A": "up", "[B": "down", "[C": "right", "[D": "left", "[H": "home", "[F": "end", "OA": "up", "OB": "down", "OC": "right", "OD": "left",
	"OH": "home", "OF": "end", "[1~": "home", "[7~": "home", "[4~": "end", "[8~": "end", "[3~": "delete",
	"[1;5D": "word-left", "[1;5C": "word-right", "[1;3D": "word-left", "[1;3C": "word-right", "b": "word-left", "f": "word-right",
	"\r": "alt-enter", "\n": "alt-enter", "\x7f": "ctrl-w",
}

// readKey reads one key and returns its name, or "text " and what was typed or
// pasted. A key that is not known has an empty name.
func readKey(in *bufio.Reader) (string, error) {
	r, _, err := in.ReadRune()
	if err != nil {
		return "", err
	}
	if r != '\x1b' {
		if r < ' ' && r != '\t' || r == 127 {
			return controls[r], nil
		}
		return "text " + string(r), nil
	}
	var s strings.Builder
	for s.Len() < 16 {
		b, err := in.ReadByte()
		if err != nil {
			return "", err
		}
		s.WriteByte(b)
		if first := s.String()[0]; first != '[' && first != 'O' || s.Len() > 1 && b >= '@' && b <= '~' {
			break
		}
	}
	if s.String() != "[200~" {
		return sequences[s.String()], nil
	}
	pasted, err := readPaste(in)
	return "text " + pasted, err
}

// readPaste reads what a terminal sends between the marks of a pasted text.
func readPaste(in *bufio.Reader) (string, error) {
	const end = "\x1b[201~"
	var s strings.Builder
	for !strings.HasSuffix(s.String(), end) { // String does not copy
		piece, err := in.ReadString('~')
		if s.WriteString(piece); err != nil {
			return "", err
		}
	}
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimSuffix(s.String(), end))
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD")), nil
}

// isTerminal says whether file is one, and not a file or a pipe.
func isTerminal(file *os.File) bool {
	_, err := terminalColumns(file)
	return err == nil
}

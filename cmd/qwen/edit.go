package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
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
	size    func() (columns, rows int) // of the terminal
	history []string

	text  []rune
	at    int    // where the cursor is, 0 to len(text)
	past  int    // which message of the history is shown; len(history): none, text is new
	new   string // the new text while an old one is shown
	top   int    // the first row of the text that is shown: a long text does not fit on the screen
	drawn int    // rows on the screen
	row   int    // the one of them that the cursor was put into

	columns int   // of the terminal, when it was drawn
	cells   []int // how many of them each row took
	column  int   // where the cursor was put
}

// errInterrupted says that Ctrl-C was pressed.
var errInterrupted = errors.New("interrupted")

const prompt, indent = "> ", "  "

// read lets the user write a message. It returns io.EOF for Ctrl-D on an empty
// line and errInterrupted for Ctrl-C.
func (e *editor) read() (string, error) {
	e.text, e.at, e.top, e.drawn, e.row, e.cells, e.past = nil, 0, 0, 0, 0, nil, len(e.history)
	for {
		if e.in.Buffered() == 0 { // what comes all at once is drawn once
			e.draw()
		}
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
		e.drawn, e.row, e.cells = 0, 0, nil
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

// draw shows prompt and text in place of what the last draw wrote, and puts the
// cursor in its place. Of a text taller than the screen it shows the rows around the
// cursor: what has scrolled off the top could never be drawn over again.
func (e *editor) draw() {
	columns, height := e.size()
	columns, height = max(columns, 10), max(height, 1)
	e.resize(columns)
	rows, row, column := e.layout(columns)
	e.top = min(max(e.top, row-height+1), row, max(len(rows)-height, 0))
	e.write(rows[e.top:min(e.top+height, len(rows))], row-e.top, column)
}

// leave shows all of the text, for who scrolls back, and moves below it.
func (e *editor) leave() {
	columns, _ := e.size()
	columns = max(columns, 10)
	e.resize(columns)
	rows, _, _ := e.layout(columns)
	e.write(rows, len(rows)-1, 0)
	io.WriteString(e.out, "\r\n")
}

// resize counts what is on the screen in rows of its new width: a terminal that has
// become narrower breaks each row anew, and one that has become wider joins none.
func (e *editor) resize(columns int) {
	if columns < e.columns {
		rows := func(cells int) int { return max(1, (cells+columns-1)/columns) }
		drawn, row := 0, e.column/columns
		for i, cells := range e.cells {
			if i < e.row {
				row += rows(cells)
			}
			drawn += rows(cells)
		}
		e.drawn, e.row = drawn, row
	}
	e.columns = columns
}

// layout breaks prompt and text into rows of the screen, and returns where the
// cursor is. The terminal would break lines too, but not say where.
func (e *editor) layout(columns int) (rows []string, cursorRow, cursorColumn int) {
	var s strings.Builder
	s.WriteString(prompt)
	column := len(prompt)
	next := func(start string) {
		rows = append(rows, s.String())
		s.Reset()
		s.WriteString(start)
		column = len(start)
	}
	for i := 0; ; i++ {
		r := ' ' // a tab, and the cursor's own cell at the end of the text
		if i < len(e.text) && e.text[i] != '\t' {
			r = e.text[i]
		}
		if column+cellsOf(r) > columns {
			next("")
		}
		if i == e.at {
			cursorRow, cursorColumn = len(rows), column
		}
		if i == len(e.text) {
			return append(rows, s.String()), cursorRow, cursorColumn
		}
		if r == '\n' {
			next(indent)
			continue
		}
		s.WriteRune(r)
		column += cellsOf(r)
	}
}

// write writes rows over what the last write wrote and puts the cursor into one of
// them. Each row is cleared by itself: a terminal multiplexer takes the clearing of a
// whole screen for its end, and keeps a copy.
func (e *editor) write(rows []string, cursorRow, cursorColumn int) {
	var s strings.Builder
	if e.row > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", e.row)
	}
	e.cells = e.cells[:0]
	for i, row := range rows {
		clear := "\x1b[K"
		if i == len(rows)-1 && len(rows) < e.drawn {
			clear = "\x1b[J"
		}
		if i > 0 {
			s.WriteString("\r\n")
		}
		s.WriteString("\r" + clear + row)
		cells := 0
		for _, r := range row {
			cells += cellsOf(r)
		}
		e.cells = append(e.cells, cells)
	}
	if up := len(rows) - 1 - cursorRow; up > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", up)
	}
	s.WriteByte('\r')
	if cursorColumn > 0 { // 0 would move by one as well
		fmt.Fprintf(&s, "\x1b[%dC", cursorColumn)
	}
	e.drawn, e.row, e.column = len(rows), cursorRow, cursorColumn
	io.WriteString(e.out, s.String())
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

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress says how far a pull is: a bar on a terminal, else a line a file.
type progress struct {
	out      io.Writer
	terminal bool
	drawn    bool      // the bar is on the last line
	last     time.Time // when it was drawn
}

func newProgress(out *os.File) *progress {
	return &progress{out: out, terminal: isTerminal(out)}
}

// show draws the bar, ten times a second at most.
func (p *progress) show(name string, at, size int64) {
	if !p.terminal || size <= 0 || time.Since(p.last) < 100*time.Millisecond && at < size {
		return
	}
	const width = 30
	full := int(width * at / size)
	fmt.Fprintf(p.out, "\r\x1b[K%-28.28s [%s%s] %3d%% of %s", printable(name), strings.Repeat("=", full), strings.Repeat(" ", width-full), 100*at/size, megabytes(size))
	p.last, p.drawn = time.Now(), true
}

// note writes a line.
func (p *progress) note(format string, args ...any) {
	p.end()
	fmt.Fprintln(p.out, oneLine(fmt.Sprintf(format, args...)))
}

// done says that a file is there.
func (p *progress) done(name string, size int64) {
	p.show(name, size, size)
	if p.terminal {
		p.end()
	} else {
		p.note("%s %s", name, megabytes(size))
	}
}

// end leaves the bar's line.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprintln(p.out)
		p.drawn = false
	}
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

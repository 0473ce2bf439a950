//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminalSize returns the width and the height of the terminal, or an error if file
// is none. A terminal that does not say is taken for one of 80 columns and 24 rows.
func terminalSize(file *os.File) (columns, rows int, err error) {
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, err
	}
	if size.Col == 0 || size.Row == 0 {
		return 80, 24, nil
	}
	return int(size.Col), int(size.Row), nil
}

// rawMode makes the terminal hand over every key at once, without showing it, and
// returns what undoes that.
func rawMode(file *os.File) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(int(file.Fd()), getTermios)
	if err != nil {
		return nil, err
	}
	raw := *before
	raw.Iflag &^= unix.ICRNL | unix.INLCR | unix.IXON // Enter stays \r; Ctrl-S stops nothing
	raw.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(file.Fd()), setTermios, &raw); err != nil {
		return nil, err
	}
	return func() { unix.IoctlSetTermios(int(file.Fd()), setTermios, before) }, nil
}

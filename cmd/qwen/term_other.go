//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import (
	"errors"
	"os"
)

var errNoTerminal = errors.New("no terminal that this program knows")

// terminalSize knows no terminals here: messages are read line by line.
func terminalSize(*os.File) (columns, rows int, err error) { return 0, 0, errNoTerminal }

// rawMode does nothing here.
func rawMode(*os.File) (restore func(), err error) { return nil, errNoTerminal }

//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import (
	"errors"
	"os"
)

var errNoTerminal = errors.New("no terminal that this program knows")

// terminalColumns knows no terminals here: messages are read line by line.
func terminalColumns(*os.File) (int, error) { return 0, errNoTerminal }

// rawMode does nothing here.
func rawMode(*os.File) (restore func(), err error) { return nil, errNoTerminal }

package main

import "os"

// isTerminal says whether file is one, and not a file or a pipe.
func isTerminal(file *os.File) bool {
	_, _, err := terminalSize(file)
	return err == nil
}

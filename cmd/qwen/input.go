package main

import (
	"fmt"
	"io"
	"os"
)

// readStdin reads all of stdin. A person who forgot the pipe is told what is going on.
func readStdin() ([]byte, error) {
	if isTerminal(os.Stdin) {
		fmt.Fprintln(os.Stderr, "[reading from the terminal: Ctrl-D on an empty line ends it]")
	}
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, fmt.Errorf("stdin: cannot be read: %s", reason(err))
	}
	return data, nil
}

// readFile reads a regular file of at most limit bytes. A pipe or a device, of which
// nobody knows how much will come, is refused before anything is read.
func readFile(name string, limit int64) ([]byte, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|openPlainly, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot be opened: %s, expected a file", name, reason(err))
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %s, expected a file", name, reason(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: found no regular file, expected one", name)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s: found %d bytes, expected at most %d", name, info.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(file, limit))
	if err != nil {
		return nil, fmt.Errorf("%s: cannot be read: %s", name, reason(err))
	}
	return data, nil
}

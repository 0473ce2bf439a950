//go:build unix

package qwen

import (
	"os"

	"golang.org/x/sys/unix"
)

// openPlain opens a file for reading. O_NONBLOCK lets the open of a named pipe
// return at once, so that the caller can see what it is and refuse it.
func openPlain(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// mapPlain maps the first size bytes of file, read-only, and returns what unmaps
// them. size is above 0.
func mapPlain(file *os.File, size int) ([]byte, func() error, error) {
	data, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil { // a file system that maps nothing, or no addresses left
		return nil, nil, err
	}
	return data, func() error { return unix.Munmap(data) }, nil
}

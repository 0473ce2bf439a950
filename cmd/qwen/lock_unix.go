//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// tryLock locks a file as Python's filelock does, and says whether it could.
func tryLock(file *os.File) (bool, error) {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK || err == unix.EINTR {
		return false, nil
	}
	return err == nil, err
}

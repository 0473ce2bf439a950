//go:build unix

package main

import "golang.org/x/sys/unix"

// openPlainly lets the open of a named pipe return at once, so that the caller sees
// what it is. With notALink, a link is an error.
const openPlainly, notALink = unix.O_NONBLOCK, unix.O_NOFOLLOW

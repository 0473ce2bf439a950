//go:build !unix

package main

// Here no open waits, and none can refuse links.
const openPlainly, notALink = 0, 0

//go:build unix

package qwen

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// guardedPages returns at least n bytes of whole pages with a page behind them
// that may not be touched.
func guardedPages(t *testing.T, n int) []byte {
	page := os.Getpagesize()
	n = (n + page - 1) / page * page
	data, err := unix.Mmap(-1, 0, n+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(data) })
	if err := unix.Mprotect(data[n:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return data[:n]
}

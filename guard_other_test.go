//go:build !unix

package qwen

import "testing"

// guardedPages returns n bytes: there is nothing to guard them with here.
func guardedPages(t *testing.T, n int) []byte { return make([]byte, n) }

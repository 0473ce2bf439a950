//go:build !unix

package qwen

import (
	"io"
	"os"
)

// openPlain opens a file for reading.
func openPlain(name string) (*os.File, error) { return os.Open(name) }

// mapPlain reads the first size bytes of file: elsewhere than on Unix a model is loaded
// into memory as a whole. size is above 0.
func mapPlain(file *os.File, size int) ([]byte, func() error, error) {
	data := make([]byte, size)
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, nil, err
	}
	return data, func() error { return nil }, nil
}

//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/bc1a8f18/qwen"
)

// TestInspectShrunk looks at a file that has become shorter since it was mapped.
func TestInspectShrunk(t *testing.T) {
	dir := copyModel(t, func(map[string]string) {})
	m, err := qwen.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := os.Truncate(filepath.Join(dir, weightsFile), 9000); err != nil {
		t.Fatal(err)
	}
	if _, err := inspect(m, -1); !errors.Is(err, qwen.ErrFileChanged) {
		t.Errorf("%v, expected ErrFileChanged", err)
	}
	reference, err := qwen.ReadRecording(filepath.Join(wholeModel, "trace.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := qwen.Compare(m, reference); !errors.Is(err, qwen.ErrFileChanged) {
		t.Errorf("Compare: %v, expected ErrFileChanged", err)
	}
}

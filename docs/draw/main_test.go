package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The pictures are those that the program draws, and every file on them exists.
func TestPictures(t *testing.T) {
	for name, c := range schemes {
		drawn := block(c)
		if data, err := os.ReadFile(filepath.Join("..", name)); err != nil || string(data) != drawn {
			t.Errorf("%s: %v, expected what go run ./docs/draw docs writes", name, err)
		}
		files := regexp.MustCompile(`>(\w+\.go)<`).FindAllStringSubmatch(drawn, -1)
		for _, f := range files {
			if _, err := os.Stat(filepath.Join("../..", f[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(files) < 8 {
			t.Errorf("%s: %d file names", name, len(files))
		}
	}
}

//go:build !unix && !windows

package main

import "os"

// tryLock cannot lock here. Two pulls at once fetch the same file twice.
func tryLock(*os.File) (bool, error) { return true, nil }

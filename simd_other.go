//go:build (!amd64 && !arm64) || purego

package qwen

// machineKernels returns none: the generic kernel is all there is.
func machineKernels() []*kernel { return nil }

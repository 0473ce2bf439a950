//go:build !purego

package qwen

import (
	"slices"
	"testing"

	"golang.org/x/sys/cpu"
)

// TestMachineKernels takes one feature after the other from the processor: a kernel
// whose instructions are not all there must not be chosen.
func TestMachineKernels(t *testing.T) {
	defer answers(t, "tile")()
	was := cpu.X86
	defer func() { cpu.X86 = was }()
	x := &cpu.X86
	avx2 := []*bool{&x.HasAVX2, &x.HasFMA, &x.HasF16C}
	avx512 := []*bool{&x.HasAVX512F, &x.HasAVX512DQ, &x.HasAVX512VL}
	without := func(missing *bool, want ...string) {
		for _, has := range slices.Concat(avx2, avx512) {
			*has = has != missing
		}
		var got []string
		for _, k := range machineKernels() {
			got = append(got, k.name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	without(nil, "avx512", "avx2")
	for _, feature := range avx512 {
		without(feature, "avx2")
	}
	for _, feature := range avx2 {
		without(feature)
	}
}

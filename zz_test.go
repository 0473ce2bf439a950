package qwen

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func BenchmarkSweep(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, width := range []int{512, 768, 896, 960, 1008, 1024, 1040, 2048, 2000, 3072} {
		out, seq := 1024, 256
		w := randomMatrix(r, BF16, out, width)
		x := randomFloats(r, seq*width)
		y := make([]float32, seq*out)
		yy := make([]float32, seq*(out+16))
		b.Run(fmt.Sprintf("%d", width), func(b *testing.B) {
			for b.Loop() {
				for i := 0; i < out; i += 64 {
					w.multiply(y, x, width, i, min(i+64, out))
				}
			}
			reportFLOP(b, 2*seq*out*width)
		})
		w.Rows = out+16
		w.Data = append(w.Data, w.Data[:16*width*2]...)
		b.Run(fmt.Sprintf("%d/y", width), func(b *testing.B) {
			for b.Loop() {
				for i := 0; i < out; i += 64 {
					w.multiply(yy, x, width, i, min(i+64, out))
				}
			}
			reportFLOP(b, 2*seq*out*width)
		})
	}
}

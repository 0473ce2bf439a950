package qwen

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// shapes are the models that the benchmarks run, with random weights.
var shapes = []Config{
	{ModelType: "qwen2", Vocab: 151936, Hidden: 896, Intermediate: 4864, Layers: 24, Heads: 14, KVHeads: 2, HeadDim: 64},
	{ModelType: "qwen3", Vocab: 151936, Hidden: 1024, Intermediate: 3072, Layers: 28, Heads: 16, KVHeads: 8, HeadDim: 128},
}

// randomMatrix returns a matrix of small random numbers.
func randomMatrix(r *rand.Rand, dtype DType, rows, cols int) Matrix {
	data := make([]byte, rows*cols*dtype.Size()+7)
	for i := 0; i+8 <= len(data); i += 8 {
		v := r.Uint64()
		switch dtype {
		case BF16: // ± 2^-6 … 2^-5, or so
			v = v&0x807f807f807f807f | 0x3c803c803c803c80
		case F16:
			v = v&0x83ff83ff83ff83ff | 0x2400240024002400
		case F32:
			v = v&0x807fffff807fffff | 0x3c8000003c800000
		}
		binary.LittleEndian.PutUint64(data[i:], v)
	}
	return Matrix{dtype, rows, cols, data[:len(data)-7]}
}

func randomFloats(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// benchModel returns a model of the given shape: as many bytes as the real one.
func benchModel(c Config) *Model {
	r := rand.New(rand.NewPCG(1, 2))
	c.Eps, c.RoPE, c.MaxPositions = 1e-6, RoPEConfig{Type: "default", Theta: 1e6}, 40960
	matrix := func(rows, cols int) Matrix { return randomMatrix(r, BF16, rows, cols) }
	ones := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = 1
		}
		return x
	}
	m := &Model{Config: c, Embed: matrix(c.Vocab, c.Hidden), Norm: ones(c.Hidden), rotary: NewRotary(c.RoPE, c.HeadDim)}
	m.Head = m.Embed
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	for range c.Layers {
		l := Layer{InputNorm: ones(c.Hidden), PostNorm: ones(c.Hidden), FFN: FFNWeights{matrix(c.Intermediate, c.Hidden), matrix(c.Intermediate, c.Hidden), matrix(c.Hidden, c.Intermediate)}}
		l.Attention = AttentionWeights{Q: matrix(q, c.Hidden), K: matrix(kv, c.Hidden), V: matrix(kv, c.Hidden), O: matrix(c.Hidden, q)}
		if c.ModelType == "qwen3" {
			l.Attention.QNorm, l.Attention.KNorm = ones(c.HeadDim), ones(c.HeadDim)
		} else {
			l.Attention.QBias, l.Attention.KBias, l.Attention.VBias = make([]float32, q), make([]float32, kv), make([]float32, kv)
		}
		m.Layers = append(m.Layers, l)
	}
	return m
}

// weightBytes returns what decode reads of m for one token, and multiplyAdds what
// it computes in its Linears.
func weightBytes(m *Model) int {
	n := len(m.Head.Data)
	for _, l := range m.Layers {
		for _, w := range []Matrix{l.Attention.Q, l.Attention.K, l.Attention.V, l.Attention.O, l.FFN.Gate, l.FFN.Up, l.FFN.Down} {
			n += len(w.Data)
		}
	}
	return n
}

func BenchmarkModel(b *testing.B) {
	for _, c := range shapes {
		m := benchModel(c)
		bytes := weightBytes(m)
		ids := make([]int, 4096)
		for i := range ids {
			ids[i] = i * 31 % c.Vocab
		}
		forward := func(b *testing.B, ids []int, cache *Cache) {
			if _, err := m.prefill(b.Context(), ids, cache); err != nil {
				b.Fatal(err)
			}
		}
		for _, seq := range []int{512} {
			b.Run(fmt.Sprintf("%s/prefill%d", c.ModelType, seq), func(b *testing.B) {
				for b.Loop() {
					forward(b, ids[:seq], m.NewCache())
				}
				perSecond := float64(b.N) / b.Elapsed().Seconds()
				b.ReportMetric(perSecond*float64(seq), "tok/s")
				b.ReportMetric(perSecond*float64(seq)*float64(bytes-len(m.Head.Data))/1e9, "GFLOP/s") // 2 bytes a weight, 2 operations
			})
		}
		for _, depth := range []int{0, 4096} {
			cache := m.NewCache()
			if depth > 0 {
				forward(b, ids[:depth], cache)
			}
			b.Run(fmt.Sprintf("%s/decode%d", c.ModelType, depth), func(b *testing.B) {
				b.SetBytes(int64(bytes + depth*c.Layers*c.KVHeads*c.HeadDim*8))
				for b.Loop() {
					forward(b, ids[:1], cache)
					cache.Truncate(depth)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tok/s")
			})
		}
	}
}

var _ = math.Pi
var _ time.Duration

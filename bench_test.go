package qwen

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
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

// reportRead reports how much was read of memory each second, and reportFLOP how
// much was multiplied and added: in all, and as shares of what the machine can
// do if QWEN_MACHINE has the two numbers that bench/machine.c prints for as many
// threads: QWEN_MACHINE="43.0 257" for 43.0 GB/s and 257 GFLOP/s.
func reportRead(b *testing.B, bytes int) { report(b, "GB/s", bytes, 0) }
func reportFLOP(b *testing.B, flop int)  { report(b, "GFLOP/s", flop, 1) }

func report(b *testing.B, unit string, amount, limit int) {
	rate := float64(b.N) * float64(amount) / b.Elapsed().Seconds() / 1e9
	b.ReportMetric(rate, unit)
	if limits := strings.Fields(os.Getenv("QWEN_MACHINE")); len(limits) == 2 {
		most, err := strconv.ParseFloat(limits[limit], 64)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(100*rate/most, "%_of_machine")
	}
}

// BenchmarkModel measures prefill and decode of models of real size.
func BenchmarkModel(b *testing.B) {
	for _, c := range shapes {
		b.Run(c.ModelType, func(b *testing.B) {
			m := benchModel(c)
			b.Run("prefill512", func(b *testing.B) { benchPrefill(b, m, 512) })
			b.Run("decode", func(b *testing.B) { benchDecode(b, m, 0) })
			b.Run("decode4096", func(b *testing.B) { benchDecode(b, m, 4096) })
		})
	}
}

// feed runs n arbitrary tokens through m.
func feed(b *testing.B, m *Model, n int, cache *Cache) {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i * 31 % m.Config.Vocab
	}
	if _, err := m.forwardPieces(b.Context(), ids, cache); err != nil {
		b.Fatal(err)
	}
}

// benchPrefill counts the operations of Linears only, and of the last layer those for
// keys and values: of the rest and the head, which serve the last token alone, none.
func benchPrefill(b *testing.B, m *Model, n int) {
	cache := m.NewCache()
	for b.Loop() {
		feed(b, m, n, cache)
		cache.Truncate(0)
	}
	tokens := float64(b.N*n) / b.Elapsed().Seconds()
	b.ReportMetric(tokens, "tok/s")
	l := m.Layers[len(m.Layers)-1]
	once := len(m.Head.Data) + len(l.Attention.Q.Data) + len(l.Attention.O.Data) + len(l.FFN.Gate.Data) + len(l.FFN.Up.Data) + len(l.FFN.Down.Data)
	reportFLOP(b, n*(weightBytes(m)-once)) // a weight: 2 bytes, 2 operations
}

func benchDecode(b *testing.B, m *Model, depth int) {
	c, cache := m.Config, m.NewCache()
	if depth > 0 {
		feed(b, m, depth, cache)
	}
	for b.Loop() {
		feed(b, m, 1, cache)
		cache.Truncate(depth)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tok/s")
	reportRead(b, weightBytes(m)+depth*c.Layers*c.KVHeads*c.HeadDim*2*4)
}

// BenchmarkLinear measures the Linears of Qwen2.5-0.5B with bf16 weights, for one
// token and for many.
func BenchmarkLinear(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, shape := range [][2]int{{896, 896}, {4864, 896}, {896, 4864}, {151936, 896}} {
		w := randomMatrix(r, BF16, shape[0], shape[1])
		for _, seq := range []int{1, 256} {
			if seq > 1 && w.Rows > 100_000 {
				continue // only the last token goes through the head
			}
			x := randomFloats(r, seq*w.Cols)
			b.Run(fmt.Sprintf("%dx%d/%d", w.Rows, w.Cols, seq), func(b *testing.B) {
				for b.Loop() {
					Linear(x, w, nil)
				}
				if seq == 1 {
					reportRead(b, len(w.Data))
				} else {
					reportFLOP(b, seq*len(w.Data))
				}
			})
		}
	}
}

// BenchmarkLoad measures Load of the folder that QWEN_MODEL names, or of a tiny one.
func BenchmarkLoad(b *testing.B) {
	dir := os.Getenv("QWEN_MODEL")
	if dir == "" {
		dir = "testdata/qwen3-tiny"
	}
	for b.Loop() {
		m, err := Load(dir)
		if err != nil {
			b.Fatal(err)
		}
		m.Close()
	}
}

// BenchmarkKernels measures each kernel on one core, with operands in its cache:
// QWEN_MACHINE should have the numbers of one thread.
func BenchmarkKernels(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	const rows, cols = 24, 1024
	x, y := randomFloats(r, 6*cols), make([]float32, 6*cols)
	for _, k := range kernels {
		restore := useKernel(k)
		for _, dtype := range []DType{F32, F16, BF16} {
			w := randomMatrix(r, dtype, rows, cols)
			b.Run(k.name+"/dots"+string(dtype), func(b *testing.B) {
				b.SetBytes(int64(len(w.Data)))
				for b.Loop() {
					k.dots(y[:rows], w.Data, dtype, x[:cols])
				}
			})
			b.Run(k.name+"/widen"+string(dtype), func(b *testing.B) {
				b.SetBytes(2 * cols)
				for b.Loop() {
					k.widen(y[:cols], w.Data, dtype)
				}
			})
		}
		// Rows 4 KiB apart would fall into the same lines of the L1 cache.
		const stride = cols + rowMultiple
		w, x := randomFloats(r, rows*stride), randomFloats(r, 6*stride)
		t := &tile{y: y, w: w, x: x, yStride: cols, wStride: stride, xStride: stride, n: cols, count: 1, first: true, last: true}
		b.Run(k.name+"/tile", func(b *testing.B) {
			for b.Loop() {
				k.tile(t)
			}
			reportFLOP(b, 2*k.rows*k.tokens*cols)
		})
		t.n, t.wStride = 64, cols/4
		b.Run(k.name+"/mix", func(b *testing.B) {
			for b.Loop() {
				k.mix(t)
			}
			reportFLOP(b, 2*k.mixColumns*k.mixTokens*64)
		})
		if k.keys != nil {
			b.Run(k.name+"/keys", func(b *testing.B) {
				b.SetBytes(4 * rows * cols)
				for b.Loop() {
					k.keys(y[:rows], w[:rows*cols], x[:cols])
				}
			})
			b.Run(k.name+"/values", func(b *testing.B) {
				b.SetBytes(4 * rows * cols)
				for b.Loop() {
					k.values(y[:cols], w[:rows*cols], x[:rows])
				}
			})
		}
		b.Run(k.name+"/softmax", func(b *testing.B) {
			b.SetBytes(4 * cols)
			for b.Loop() {
				k.softmax(y[:cols])
			}
		})
		b.Run(k.name+"/silu", func(b *testing.B) {
			b.SetBytes(4 * cols)
			for b.Loop() {
				k.silu(y[:cols], x[:cols])
			}
		})
		restore()
	}
}

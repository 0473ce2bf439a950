package qwen

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// eachKernel runs a test once for every kernel that the machine has.
func eachKernel(t *testing.T, test func(t *testing.T)) {
	for _, k := range kernels {
		t.Run(k.name, func(t *testing.T) {
			defer useKernel(k)()
			test(t)
		})
	}
}

// fma returns a*b + c rounded once to float32. The float64 product is exact; the
// sum is rounded to odd, which cannot spoil the rounding to float32 after it.
func fma(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	sum := p + q
	v := sum - p
	lost := (p - (sum - v)) + (q - v) // exact: sum + lost = p + q
	if bits := math.Float64bits(sum); lost != 0 && bits&1 == 0 {
		if (lost > 0) == (sum > 0) {
			bits++
		} else {
			bits--
		}
		sum = math.Float64frombits(bits)
	}
	return float32(sum)
}

// dotReference is the order of summation that kernel.go promises, one number at
// a time: with one rounding for a product and its sum, or with two.
func dotReference(w, x []float32, fused bool) float32 {
	var lane [8]float32
	for c := range w {
		if fused {
			lane[c%8] = fma(w[c], x[c], lane[c%8])
		} else {
			lane[c%8] += float32(w[c] * x[c])
		}
	}
	return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]))
}

func identical(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) })
}

// guarded returns a copy of x that ends where memory ends, or shift bytes before:
// to read or write what lies behind it is a fault, or meets NaN.
func guarded(t *testing.T, x []byte, shift int) []byte {
	data := guardedPages(t, len(x)+shift+64)
	for i := range data {
		data[i] = 0xff // a NaN in any dtype
	}
	from := len(data) - shift - len(x)
	copy(data[from:], x)
	return data[from : from+len(x) : from+len(x)]
}

// TestLinearBits holds Linear, of every dtype and every length up to 300, at
// every alignment, against the order of summation that kernel.go promises, bit by
// bit, and against float64.
func TestLinearBits(t *testing.T) {
	defer answers(t, "Linear")()
	eachKernel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 1))
		for _, dtype := range []DType{F32, F16, BF16} {
			for cols := 1; cols <= 300; cols++ {
				rows, seq := 1+cols%19, 1+cols%8*(1-cols%3/2)
				m := randomMatrix(r, dtype, rows, cols)
				x := randomFloats(r, seq*cols)
				m.Data = guarded(t, m.Data, cols%17)
				got := Linear(x, m, nil)
				for i := range got {
					w, x := m.Row(i%rows), x[i/rows*cols:(i/rows+1)*cols]
					want := dotReference(w, x, Kernel() != "generic")
					if math.Float32bits(got[i]) != math.Float32bits(want) {
						t.Fatalf("%s [%d %d], %d tokens: y[%d] is %g, want %g", dtype, rows, cols, seq, i, got[i], want)
					}
					var exact, size float64
					for c := range w {
						exact += float64(w[c]) * float64(x[c])
						size += math.Abs(float64(w[c]) * float64(x[c]))
					}
					if bound := float64(cols) * 0x1p-24 * size; !(math.Abs(float64(got[i])-exact) <= bound) {
						t.Fatalf("%s [%d %d], %d tokens: y[%d] is %g, in float64 %g", dtype, rows, cols, seq, i, got[i], exact)
					}
				}
			}
		}
	})
}

// TestLinearSameBits says that a token's products do not depend on the tokens
// that come with it, nor on the number of threads: long rows, many rows.
func TestLinearSameBits(t *testing.T) {
	defer answers(t, "Linear")()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	eachKernel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(2, 2))
		for _, shape := range [][2]int{{1, 1}, {3, 2500}, {21, 4864}, {301, 96}, {70, 1039}} {
			w := randomMatrix(r, BF16, shape[0], shape[1])
			x := randomFloats(r, 21*w.Cols)
			bias := randomFloats(r, w.Rows)
			runtime.GOMAXPROCS(1)
			var want []float32
			for s := range 21 {
				want = append(want, Linear(x[s*w.Cols:(s+1)*w.Cols], w, bias)...)
			}
			for _, threads := range []int{1, 3} {
				runtime.GOMAXPROCS(threads)
				for _, seq := range []int{2, 3, 4, 5, 6, 7, 13, 21} {
					if !identical(Linear(x[:seq*w.Cols], w, bias), want[:seq*w.Rows]) {
						t.Fatalf("[%d %d], %d tokens, %d threads: other bits than token by token", w.Rows, w.Cols, seq, threads)
					}
				}
			}
		}
	})
}

// TestAttentionSameBits says the same of attention: one token that looks back on its own, whose
// keys and values may be read as a stream, and the same token among others.
func TestAttentionSameBits(t *testing.T) {
	defer answers(t, "Attention")()
	eachKernel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 3))
		for _, shape := range [][3]int{{1, 1, 16}, {4, 2, 32}, {4, 1, 64}, {5, 1, 64}, {16, 2, 128}, {9, 1, 128}, {2, 1, 80}, {3, 1, 10}} {
			heads, kvHeads, headDim := shape[0], shape[1], shape[2]
			const total = 2*streamRows + 7
			q, k, v := randomFloats(r, total*heads*headDim), randomFloats(r, total*kvHeads*headDim), randomFloats(r, total*kvHeads*headDim)
			want := Attention(q, k, v, heads, kvHeads, headDim, nil)
			for _, at := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 100, streamRows - 1, streamRows, streamRows + 1, total - 1} {
				n := at + 1 // keys that the token sees
				width := heads * headDim
				got := Attention(q[at*width:n*width], k[:n*kvHeads*headDim], v[:n*kvHeads*headDim], heads, kvHeads, headDim, nil)
				if !identical(got, want[at*width:n*width]) {
					t.Fatalf("%d heads, %d kvHeads, headDim %d, token %d: other bits alone than among others", heads, kvHeads, headDim, at)
				}
			}
		}
	})
}

// TestKernelWiden holds the kernels' conversions against Go's: all 65536 numbers.
func TestKernelWiden(t *testing.T) {
	defer answers(t, "kernel.widen")()
	eachKernel(t, func(t *testing.T) {
		data := make([]byte, 2*65536)
		for i := range 65536 {
			binary.LittleEndian.PutUint16(data[2*i:], uint16(i))
		}
		for _, dtype := range []DType{F16, BF16} {
			got, want := make([]float32, 65536), make([]float32, 65536)
			current.widen(got, data, dtype)
			widen(want, data, dtype)
			for i := range want {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) && !(got[i] != got[i] && want[i] != want[i]) {
					t.Fatalf("%s %#04x: got %g, want %g", dtype, i, got[i], want[i])
				}
			}
			for n := range 100 { // does not write behind dst, nor read behind src
				src := guarded(t, data[:2*n], 0)
				dst := append(make([]float32, n), 7)
				current.widen(dst[:n:n], src, dtype)
				if !identical(dst[:n], want[:n]) || dst[n] != 7 {
					t.Fatalf("%s, %d numbers: got %v", dtype, n, dst)
				}
			}
		}
	})
}

// TestKernel says which kernels have been tested.
func TestKernels(t *testing.T) {
	var names []string
	for _, k := range kernels {
		names = append(names, k.name)
	}
	t.Log("kernels:", names)
	if Kernel() != names[0] || names[len(names)-1] != "generic" {
		t.Errorf("in use: %s", Kernel())
	}
}

// TestExp holds exp to the bound in its comment, over one in a thousand of all
// numbers for which e^x is a float32.
func TestExp(t *testing.T) {
	worst, at := 0.0, float32(0)
	for bits := uint64(0); bits < 1<<32; bits += 1009 {
		x := math.Float32frombits(uint32(bits))
		want := math.Exp(float64(x))
		if !(x > expLow && want < math.MaxFloat32) {
			continue
		}
		nearest := float32(want)
		unit := float64(math.Nextafter32(nearest, math.MaxFloat32)) - float64(nearest)
		if off := math.Abs(float64(exp(x))-want) / unit; off > worst {
			worst, at = off, x
		}
	}
	t.Logf("at most %.3f units in the last place off, at %v", worst, at)
	if !(worst <= 1.5) {
		t.Errorf("exp(%v) is %.3f units in the last place off, want at most 1.5", at, worst)
	}
}

package qwen_test

import (
	"context"
	"fmt"
	"log"
	"math"

	"github.com/bc1a8f18/qwen"
	"github.com/bc1a8f18/qwen/tiny"
)

// A row of the numbers 1, 3, 5, 1 has mean square 9, so it is divided by 3; the
// weight then doubles the first channel and drops the last.
func ExampleRMSNorm() {
	fmt.Printf("%.2f\n", qwen.RMSNorm([]float32{1, 3, 5, 1}, []float32{2, 1, 1, 0}, 0))
	// Output: [0.67 1.00 1.67 0.00]
}

// A head of two numbers is one pair, and invFreq[0] is always 1: at position 1
// the point (1, 0) turns by one radian, whatever theta is.
func ExampleRoPE() {
	rotary := qwen.NewRotary(qwen.RoPEConfig{Type: "default", Theta: 10000}, 2)
	cos, sin := rotary.Angles(0, 2)                    // positions 0 and 1
	y := qwen.RoPE([]float32{1, 0, 1, 0}, cos, sin, 2) // the same head at both
	fmt.Printf("%.4f\n%.4f %.4f\n", y, math.Cos(1), math.Sin(1))
	// Output:
	// [1.0000 0.0000 0.5403 0.8415]
	// 0.5403 0.8415
}

// Three tokens, one head of one number. All keys are 0, so every score is 0 and
// each token takes the mean of the values it may see: its own and earlier ones.
func ExampleAttention() {
	q, k, v := []float32{1, 1, 1}, []float32{0, 0, 0}, []float32{6, 2, 1}
	fmt.Println(qwen.Attention(q, k, v, 1, 1, 1, nil))
	// Output: [6 4 3]
}

// The rows of a weight are the outputs: y[0] = 1*5 + 2*6 and y[1] = 3*5 + 4*6.
func ExampleLinear() {
	w := qwen.NewMatrix([]float32{
		1, 2,
		3, 4,
	}, 2)
	fmt.Println(qwen.Linear([]float32{5, 6}, w, []float32{0, 100}))
	// Output: [17 139]
}

func ExampleSoftmax() {
	fmt.Printf("%.3f\n", qwen.Softmax([]float32{1000, 1000, 1000 - float32(math.Ln2)}))
	// Output: [0.400 0.400 0.200]
}

func ExampleModel_Chat() {
	m, err := qwen.LoadFS(tiny.FS) // qwen.Load("folder") for a published checkpoint
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	ask := []qwen.Message{{Role: "user", Content: "What does RMSNorm do?"}}
	words := 0
	for token, err := range m.Chat(context.Background(), ask, qwen.Options{}) {
		if err != nil {
			log.Fatal(err)
		}
		if words++; words == 1 { // print token.Text as it comes; here only the first
			fmt.Println(token.Text)
		}
	}
	// Output: RMSNorm
}

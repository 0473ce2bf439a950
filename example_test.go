package qwen_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"math"
	"slices"
	"strings"

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

// The gate of the FFN, open and nearly shut, and what it lets through of 3.
func ExampleSiLU() {
	gate := qwen.SiLU([]float32{2, -2})
	fmt.Printf("%.2f %.2f\n", gate, gate[0]*3)
	// Output: [1.76 -0.24] 5.28
}

// Two equal scores and one that is ln 2 less, so half as likely. Near 1000, where
// exp alone would overflow.
func ExampleSoftmax() {
	fmt.Printf("%.3f\n", qwen.Softmax([]float32{1000, 1000, 1000 - float32(math.Ln2)}))
	// Output: [0.400 0.400 0.200]
}

// Each step of sampling alone, on the logits of sample.go's header. What is
// removed is at -Inf.
func ExampleSampling_Filter() {
	logits := []float32{2, 1, 0, -1}
	fmt.Printf("%.3f\n", qwen.Softmax(logits))
	for _, s := range []qwen.Sampling{
		{RepetitionPenalty: 2},
		{Temperature: 0.5},
		{Temperature: 1, TopK: 2},
		{Temperature: 1, TopP: 0.9},
		{Temperature: 1, MinP: 0.2},
	} {
		fmt.Println(s.Filter(logits, []int{0, 3})) // ids 0 and 3 have occurred
	}
	// Output:
	// [0.644 0.237 0.087 0.032]
	// [1 1 0 -2]
	// [4 2 0 -2]
	// [2 1 -Inf -Inf]
	// [2 1 0 -Inf]
	// [2 1 -Inf -Inf]
}

// The bytes of a file with one tensor, as in safetensors.go's header.
func ExampleWriteSafetensors() {
	var file bytes.Buffer
	err := qwen.WriteSafetensors(&file, []qwen.Tensor{qwen.NewTensor("a", []float32{1, -2}, 2)}, nil)
	if err != nil {
		log.Fatal(err)
	}
	for row := range slices.Chunk(file.Bytes(), 8) {
		fmt.Printf("% x\n", row)
	}
	// Output:
	// 38 00 00 00 00 00 00 00
	// 7b 22 61 22 3a 7b 22 64
	// 74 79 70 65 22 3a 22 46
	// 33 32 22 2c 22 73 68 61
	// 70 65 22 3a 5b 32 5d 2c
	// 22 64 61 74 61 5f 6f 66
	// 66 73 65 74 73 22 3a 5b
	// 30 2c 38 5d 7d 7d 20 20
	// 00 00 80 3f 00 00 00 c0
}

// A question, its answer. Greedy, since Options has no Sampling, so the answer is
// always the same one.
func ExampleModel_Generate() {
	m, err := qwen.LoadFS(tiny.FS) // qwen.Load("folder") for a published checkpoint
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	prompt, err := m.ChatIDs([]qwen.Message{{Role: "user", Content: "Hello"}}, qwen.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", m.Tokenizer.Decode(prompt))
	var ids []int
	for token, err := range m.Generate(context.Background(), prompt, qwen.Options{MaxTokens: 100}) {
		if err != nil {
			log.Fatal(err)
		}
		ids = append(ids, token.ID)
	}
	fmt.Printf("%q\n", m.Tokenizer.Decode(ids))
	// Output:
	// "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
	// "Hello! Ask me about this package or about how a transformer works, for example: What does RMSNorm do?<|im_end|>"
}

// Text comes as soon as it is whole characters: print it as it comes. What has
// been said stays in the cache, so a later turn computes only what is new.
func ExampleModel_Chat() {
	m, err := qwen.LoadFS(tiny.FS)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	var messages []qwen.Message
	options := qwen.Options{Cache: m.NewCache()}
	for _, question := range []string{"Where is RoPE?", "Who trained you?"} {
		messages = append(messages, qwen.Message{Role: "user", Content: question})
		answer := ""
		for token, err := range m.Chat(context.Background(), messages, options) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Print(token.Text, "|") // the bars show the tokens: a program prints token.Text
			answer += token.Text
		}
		messages = append(messages, qwen.Message{Role: "assistant", Content: answer})
		fmt.Println(options.Cache.Len(), "tokens in the cache")
	}
	// Output:
	// R|oPE| is| in| rope|.go|:| the| table| of| frequencies|,| the| rotation| itself|,| and| the| scaling| r|ules| for| linear| and| YaRN|.||38 tokens in the cache
	// t|iny|/|tr|ain|.py| trained| me| from| sc|r|atch| with| PyTorch| on| a| CPU|,| on| a| few| h|un|d|red| questions| and| answers| written| by| hand|.| The|y| are| in| tiny|/|t|exts|.||93 tokens in the cache
}

// What layer 0 does with three tokens, step by step, as transformers names it.
func ExampleModel_Trace() {
	m, err := qwen.LoadFS(tiny.FS)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	err = m.Trace([]int{1, 2, 3}, m.NewCache(), func(name string, shape []int, x []float32) {
		if strings.HasPrefix(name, "model.layers.0") {
			fmt.Println(name, shape)
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// model.layers.0.input_layernorm [3 160]
	// model.layers.0.self_attn.q_proj [3 240]
	// model.layers.0.self_attn.k_proj [3 80]
	// model.layers.0.self_attn.v_proj [3 80]
	// model.layers.0.self_attn.q_norm [3 6 40]
	// model.layers.0.self_attn.k_norm [3 2 40]
	// model.layers.0.self_attn.q_rope [3 6 40]
	// model.layers.0.self_attn.k_rope [3 2 40]
	// model.layers.0.self_attn.probs [6 3 3]
	// model.layers.0.self_attn.context [3 240]
	// model.layers.0.self_attn.o_proj [3 160]
	// model.layers.0.attn_residual [3 160]
	// model.layers.0.post_attention_layernorm [3 160]
	// model.layers.0.mlp.gate_proj [3 448]
	// model.layers.0.mlp.up_proj [3 448]
	// model.layers.0.mlp.act_fn [3 448]
	// model.layers.0.mlp.gated [3 448]
	// model.layers.0.mlp.down_proj [3 160]
	// model.layers.0 [3 160]
}

// Text to ids and back. A token is a piece of text as it stood in what the
// vocabulary was made of; spaces belong to the word behind them.
func ExampleTokenizer_Encode() {
	t, err := qwen.LoadTokenizerFS(tiny.FS)
	if err != nil {
		log.Fatal(err)
	}
	ids, err := t.Encode("What does RMSNorm do?<|im_end|>")
	if err != nil {
		log.Fatal(err)
	}
	for _, id := range ids {
		fmt.Printf("%d %q\n", id, t.Decode([]int{id}))
	}
	fmt.Printf("%q\n", t.Decode(ids))
	// Output:
	// 280 "What"
	// 283 " does"
	// 673 " RMSNorm"
	// 267 " do"
	// 30 "?"
	// 2536 "<|im_end|>"
	// "What does RMSNorm do?<|im_end|>"
}

package qwen

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// noneLeft waits until there are no more goroutines than before.
func noneLeft(t *testing.T, before int) {
	t.Helper()
	for range 200 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

// draftModel loads a draft.
func draftModel(t testing.TB, d *draft) *Model {
	t.Helper()
	m, err := LoadFS(mapFS(d.contents()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// runAll runs a generation to its end.
func runAll(m *Model, ctx context.Context, prompt []int, o Options) (ids []int, err error) {
	for token, err := range m.Generate(ctx, prompt, o) {
		if err != nil {
			return ids, err
		}
		ids = append(ids, token.ID)
	}
	return ids, nil
}

// TestMisuse calls everything with what it does not take: an error of one line,
// and a cache that is as it was.
func TestMisuse(t *testing.T) {
	m, other := draftModel(t, newDraft("qwen3")), draftModel(t, newDraft("qwen2"))
	ctx := t.Context()
	expect := func(what string, err error, kind error, words ...string) {
		t.Helper()
		if err == nil || kind != nil && !errors.Is(err, kind) || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "qwen: ") && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, expected an error of kind %v", what, err, kind)
			return
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not say %q", what, err, word)
			}
		}
	}
	all := func(what string, prompt []int, o Options, kind error, words ...string) {
		t.Helper()
		cache := o.Cache
		if cache == nil {
			cache = m.NewCache()
		}
		before := cache.Len()
		_, err := m.Forward(prompt, cache)
		expect("Forward, "+what, err, kind, words...)
		expect("Trace, "+what, m.Trace(prompt, cache, func(string, []int, []float32) {}), kind, words...)
		ids, err := runAll(m, ctx, prompt, o)
		expect("Generate, "+what, err, kind, words...)
		if len(ids) > 0 || cache.Len() != before {
			t.Errorf("%s: tokens %v came, and the cache went from %d to %d tokens", what, ids, before, cache.Len())
		}
	}
	all("no tokens", nil, Options{}, nil, "no tokens")
	all("empty tokens", []int{}, Options{}, nil, "no tokens")
	for _, id := range []int{-1, 11, math.MaxInt, math.MinInt, 1 << (bits.UintSize/2 - 1)} {
		all("a bad id", []int{0, id, 1}, Options{}, nil, "token 1", fmt.Sprint(id), "0 to 10")
	}
	all("a text longer than the context", make([]int, 33), Options{}, ErrContextFull, "33", "32")
	all("a text far longer than the context", make([]int, 1_000_000), Options{}, ErrContextFull)
	all("a cache of another model", []int{1}, Options{Cache: other.NewCache()}, nil, "another model")
	all("a cache of no model", []int{1}, Options{Cache: new(Cache)}, nil, "another model")
	_, err := m.Forward([]int{1}, nil)
	expect("Forward without a cache", err, nil, "another model")

	full := m.NewCache()
	if _, err := m.Forward(make([]int, 32), full); err != nil {
		t.Fatal(err)
	}
	_, err = m.Forward([]int{1}, full)
	expect("a full cache", err, ErrContextFull, "33", "32")
	used := m.NewCache()
	if _, err := m.Forward([]int{1, 2, 3}, used); err != nil {
		t.Fatal(err)
	}
	for _, prompt := range [][]int{nil, {4, 11}, make([]int, 33)} {
		if _, err := runAll(m, ctx, prompt, Options{Cache: used}); err == nil || used.Len() != 3 {
			t.Errorf("prompt %v: %v, and %d tokens in the cache, expected an error and the 3 of before", prompt, err, used.Len())
		}
	}

	nan, inf := math.NaN(), math.Inf(1)
	for name, o := range map[string]Options{
		"MaxTokens":          {MaxTokens: -1},
		"LogProbs":           {LogProbs: -1},
		"temperature":        {Sampling: Sampling{Temperature: nan}},
		"top_p":              {Sampling: Sampling{Temperature: 1, TopP: nan}},
		"min_p":              {Sampling: Sampling{Temperature: 1, MinP: nan}},
		"repetition_penalty": {Sampling: Sampling{RepetitionPenalty: nan}},
		"temperature ":       {Sampling: Sampling{Temperature: inf}},
		"temperature  ":      {Sampling: Sampling{Temperature: -1}},
		"top_p ":             {Sampling: Sampling{Temperature: 1, TopP: 1.5}},
		"top_p  ":            {Sampling: Sampling{Temperature: 1, TopP: -inf}},
		"min_p ":             {Sampling: Sampling{Temperature: 1, MinP: -0.1}},
		"top_k":              {Sampling: Sampling{Temperature: 1, TopK: -2}},
		"top_k ":             {Sampling: Sampling{Temperature: 1, TopK: math.MinInt}},
	} {
		ids, err := runAll(m, ctx, []int{1}, o)
		expect(name, err, nil, strings.TrimSpace(name), "expected")
		if ids != nil {
			t.Errorf("%s: tokens came", name)
		}
	}
	// The ends of what is allowed.
	greedy, err := runAll(m, ctx, []int{1}, Options{MaxTokens: 8, IgnoreStop: true})
	if err != nil || len(greedy) != 8 {
		t.Fatalf("%v, %v", greedy, err)
	}
	for _, s := range []Sampling{
		{Temperature: 1e-300}, {Temperature: 1e-45}, {Temperature: 1e-38}, {Temperature: 1e-30, TopK: 5, TopP: 0.5, MinP: 0.5},
		{Temperature: 1, TopK: 1}, {Temperature: 1, TopP: 1e-300}, {Temperature: 1, MinP: 1}, {RepetitionPenalty: 1, TopK: math.MaxInt32 / 2},
	} {
		if ids, err := runAll(m, ctx, []int{1}, Options{MaxTokens: 8, IgnoreStop: true, Sampling: s}); err != nil || !slices.Equal(ids, greedy) {
			t.Errorf("%+v: %v, %v, expected the likeliest tokens, %v", s, ids, err, greedy)
		}
	}
	for _, s := range []Sampling{{Temperature: math.MaxFloat32}, {Temperature: 1, RepetitionPenalty: 1e-300}, {RepetitionPenalty: math.MaxFloat32}, {Temperature: 1, TopK: -1, TopP: 1, RepetitionPenalty: 1e-45, MinP: 1e-300}} {
		for token, err := range m.Generate(ctx, []int{1, 2}, Options{MaxTokens: 20, IgnoreStop: true, Sampling: s, LogProbs: 1000}) {
			if err != nil || token.ID < 0 || token.ID > 10 || len(token.LogProbs) != 11 {
				t.Fatalf("%+v: %v, %v", s, token, err)
			}
		}
	}

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if ids, err := runAll(m, cancelled, []int{1}, Options{}); ids != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context: %v, %v", ids, err)
	}
	if ids, err := runAll(m, ctx, []int{1}, Options{IgnoreStop: true}); len(ids) != 32 || !errors.Is(err, ErrContextFull) {
		t.Errorf("to the end of the context: %d tokens, %v, expected 32 and ErrContextFull", len(ids), err)
	}
	_, err = m.ChatIDs([]Message{{Role: "user", Content: "x"}}, Options{})
	expect("ChatIDs without a tokenizer", err, nil, "tokenizer.json")
	for _, err := range m.Chat(ctx, nil, Options{}) {
		expect("Chat without a tokenizer", err, nil, "tokenizer.json")
	}
	for _, n := range []int{-1, 4} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.HasPrefix(fmt.Sprint(r), "qwen: Cache.Truncate: ") {
					t.Errorf("Truncate(%d): panic %v, expected one that says why", n, r)
				}
			}()
			used.Truncate(n)
		}()
	}
	_, err = LoadFS(nil)
	expect("LoadFS(nil)", err, nil)
}

// TestStopEarly leaves a generation in the middle; the cache goes on from there.
func TestStopEarly(t *testing.T) {
	m := draftModel(t, newDraft("qwen3"))
	o := Options{MaxTokens: 12, IgnoreStop: true}
	want, err := runAll(m, t.Context(), []int{1, 2, 3}, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Cache = m.NewCache()
	prompt := []int{1, 2, 3}
	for token, err := range m.Generate(t.Context(), prompt, o) {
		if err != nil {
			t.Fatal(err)
		}
		if prompt = append(prompt, token.ID); len(prompt) == 8 {
			break
		}
	}
	o.MaxTokens = 7
	rest, err := runAll(m, t.Context(), prompt, o)
	if got := append(prompt[3:], rest...); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// TestNotFinite puts one NaN or infinity into each tensor: no token comes, and
// the error names the tensor.
func TestNotFinite(t *testing.T) {
	for _, modelType := range []string{"qwen2", "qwen3"} {
		for i, x := range newDraft(modelType).tensors {
			for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
				d := newDraft(modelType)
				values := floatsOf(x)
				values[len(values)/2] = bad
				if strings.Contains(x.Name, "embed") {
					for j := range values {
						values[j] = bad
					}
				}
				d.tensors[i] = NewTensor(x.Name, values, x.Shape...)
				last := &d.tensors[len(d.tensors)-1] // a later one is not to blame
				last.Data = NewTensor("", slices.Repeat([]float32{bad}, 66), 66).Data
				m := draftModel(t, d)
				ids, err := runAll(m, t.Context(), []int{5, 1, 5}, Options{})
				if ids != nil || !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), x.Name) || !strings.Contains(err.Error(), fmt.Sprint(bad)) {
					t.Errorf("%v in %s: tokens %v, %v", bad, x.Name, ids, err)
				}
			}
		}
	}
	// Every weight finite, and still too much.
	d := newDraft("qwen3")
	*d.tensor("lm_head.weight") = NewTensor("lm_head.weight", slices.Repeat([]float32{math.MaxFloat32}, 66), 11, 6)
	*d.tensor("model.norm.weight") = NewTensor("model.norm.weight", slices.Repeat([]float32{math.MaxFloat32}, 6), 6)
	if _, err := runAll(draftModel(t, d), t.Context(), []int{1}, Options{}); !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "overflow") {
		t.Errorf("numbers too large: %v", err)
	}
	// A head that is stored is used, and to blame, whether or not the config ties it.
	for _, tied := range []string{"false", "true"} {
		d = newDraft("qwen3")
		d.config["tie_word_embeddings"] = tied
		values := floatsOf(*d.tensor("lm_head.weight"))
		values[7] = float32(math.NaN())
		*d.tensor("lm_head.weight") = NewTensor("lm_head.weight", values, 11, 6)
		want := "weight lm_head.weight: found NaN at element 7, expected"
		if _, err := runAll(draftModel(t, d), t.Context(), []int{1}, Options{}); !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), want) {
			t.Errorf("a NaN in the head, tied %s: %v, expected %s", tied, err, want)
		}
	}
	// A tensor that the network does not use is not to blame, and does no harm.
	d = newDraft("qwen3")
	d.tensors = append(d.tensors, NewTensor("extra", []float32{float32(math.NaN())}, 1))
	logitsOf(t, draftModel(t, d))
}

// TestClose closes models that are in use, and uses models that are closed.
func TestClose(t *testing.T) {
	before := runtime.NumGoroutine()
	dir := t.TempDir()
	newDraft("qwen3").write(t, dir)
	for range 20 {
		m, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		started := make(chan struct{}, 1000)
		for i := range 8 {
			all.Go(func() {
				for {
					_, err := runAll(m, context.Background(), []int{i, 1, 2}, Options{MaxTokens: 10, IgnoreStop: true})
					if errors.Is(err, ErrClosed) {
						return
					} else if err != nil {
						t.Error(err)
						return
					}
					m.Tensors()
					m.Parameters()
					m.NewCache()
					select {
					case started <- struct{}{}:
					default:
					}
				}
			})
		}
		<-started
		for range 2 { // closing twice does nothing
			all.Go(func() {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		cache := m.NewCache()
		if _, err := m.Forward([]int{1}, cache); !errors.Is(err, ErrClosed) {
			t.Errorf("Forward after Close: %v", err)
		}
		if err := m.Trace([]int{1}, cache, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Trace after Close: %v", err)
		}
		if _, err := runAll(m, context.Background(), []int{1}, Options{}); !errors.Is(err, ErrClosed) {
			t.Errorf("Generate after Close: %v", err)
		}
		if m.Tensors() != nil || m.Parameters() != 0 || m.Embed.Data != nil || m.Layers[1].FFN.Up.Data != nil || m.Head.Data != nil {
			t.Error("a closed model still points to its weights")
		}
	}
	m := draftModel(t, newDraft("qwen3"))
	n := 0
	var last error
	for _, err := range m.Generate(context.Background(), []int{1}, Options{IgnoreStop: true}) {
		if n++; n == 3 {
			m.Close() // between two tokens
		}
		last = err
	}
	if n != 4 || !errors.Is(last, ErrClosed) {
		t.Errorf("closed after 3 tokens: %d steps, the last %v", n, last)
	}
	noneLeft(t, before)
}

// TestManyCallers lets 64 goroutines share one model, each with a cache of its
// own: prompts of all lengths, greedy and sampled, some cancelled half-way. Each
// gets bit for bit what it gets alone.
func TestManyCallers(t *testing.T) {
	const callers = 64
	for _, name := range []string{"qwen2-tiny", "qwen3-tiny"} {
		m, err := Load("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		type step struct {
			id    int
			probs [3]LogProb
		}
		// run generates for one caller, and cancels after some tokens if it is told to.
		run := func(i, cancelAfter int) (steps []step, err error) {
			random := rand.New(rand.NewPCG(uint64(i), 0))
			prompt := make([]int, 1+random.IntN(60))
			for j := range prompt {
				prompt[j] = random.IntN(m.Config.Vocab)
			}
			o := Options{MaxTokens: 10, IgnoreStop: true, LogProbs: 3}
			if i%2 == 1 {
				o.Sampling = Sampling{Temperature: 0.9, TopK: 20, TopP: 0.95, RepetitionPenalty: 1.1, Seed: uint64(i)}
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			for token, err := range m.Generate(ctx, prompt, o) {
				if err != nil {
					return steps, err
				}
				if steps = append(steps, step{token.ID, [3]LogProb(token.LogProbs)}); len(steps) == cancelAfter {
					cancel()
				}
			}
			return steps, nil
		}
		var alone [callers][]step
		for i := range callers {
			if alone[i], err = run(i, 0); err != nil {
				t.Fatal(err)
			}
		}
		goroutines, memory := runtime.NumGoroutine(), heapInUse()
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				cancelAfter := 0
				if i%5 == 4 {
					cancelAfter = 1 + i%7
				}
				got, err := run(i, cancelAfter)
				want := alone[i]
				if cancelAfter > 0 {
					want = want[:cancelAfter]
				}
				if (cancelAfter > 0) != errors.Is(err, context.Canceled) || cancelAfter == 0 && err != nil || !slices.Equal(got, want) {
					t.Errorf("%s, caller %d: %v, %v, alone %v", name, i, got, err, want)
				}
			})
		}
		all.Wait()
		noneLeft(t, goroutines)
		if now := heapInUse(); now > memory+1<<20 {
			t.Errorf("%s: %d bytes in use, %d before", name, now, memory)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// heapInUse is the memory that is still reachable.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

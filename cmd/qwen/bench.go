package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bc1a8f18/qwen"
)

// benchResult is the document of qwen bench -json: medians over the repeats.
type benchResult struct {
	PrefillTPS   float64 `json:"prefill_tok_s"`
	DecodeTPS    float64 `json:"decode_tok_s"`
	LoadMS       float64 `json:"load_ms"`
	FirstTokenMS float64 `json:"first_token_ms"`
	RSSMB        float64 `json:"rss_mb"`
	Threads      int     `json:"threads"`
	Kernel       string  `json:"kernel"`
}

func setupBench(f *flag.FlagSet) func([]string) error {
	load := modelFlag(f)
	prompt := intFlag(f, "prompt", 512, 0, 1<<30, "`tokens` of the prompt (default 512)")
	n := intFlag(f, "n", 64, 0, 1<<30, "`tokens` to decode (default 64)")
	depth := intFlag(f, "depth", 0, 0, 1<<30, "`tokens` already in the cache")
	threads := threadsFlag(f)
	repeat := intFlag(f, "repeat", 3, 1, 1<<30, "`runs`, of which the median is reported (default 3)")
	asJSON := f.Bool("json", false, "print one JSON document")
	return func(args []string) error {
		if len(args) > 0 {
			return usageError("expected no arguments")
		}
		setThreads(*threads)
		start := time.Now()
		m, err := load()
		if err != nil {
			return err
		}
		defer m.Close()
		if need := int64(*depth) + int64(max(*prompt, *n, 1)); need > int64(m.Config.MaxPositions) { // the warming up takes one
			return usageError(fmt.Sprintf("-depth %d and then -prompt %d or -n %d make %d tokens, expected at most the model's context of %d", *depth, *prompt, *n, need, m.Config.MaxPositions))
		}
		r := benchResult{LoadMS: ms(time.Since(start)), Threads: runtime.GOMAXPROCS(0), Kernel: qwen.Kernel()}
		if err := r.measure(m, *prompt, *n, *depth, *repeat); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(r)
		}
		fmt.Fprintf(stdout, "prefill %.1f tok/s (%d tokens, first token after %.0f ms), decode %.1f tok/s (%d tokens behind %d)\nload %.0f ms, resident %.0f MB, %d threads, kernel %s\n",
			r.PrefillTPS, *prompt, r.FirstTokenMS, r.DecodeTPS, *n, *depth, r.LoadMS, r.RSSMB, r.Threads, r.Kernel)
		return nil
	}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// measure fills in speeds and memory. Prefill and decode both start behind depth
// tokens. A first run, which reads the weights from the disk and asks the system for
// memory, does not count; llama-bench does the same.
func (r *benchResult) measure(m *qwen.Model, prompt, n, depth, repeat int) error {
	cache := m.NewCache()
	cache.Reserve(depth + max(prompt, n)) // as Generate does
	if err := feed(m, cache, depth); err != nil {
		return err
	}
	if err := feed(m, cache, max(prompt, 1)); err != nil {
		return err
	}
	var prefill, decode []float64
	for range repeat {
		if prompt > 0 {
			cache.Truncate(depth)
			start := time.Now()
			if err := feed(m, cache, prompt); err != nil {
				return err
			}
			prefill = append(prefill, time.Since(start).Seconds())
		}
		if n > 0 {
			cache.Truncate(depth)
			start := time.Now()
			for range n {
				if err := feed(m, cache, 1); err != nil {
					return err
				}
			}
			decode = append(decode, time.Since(start).Seconds())
		}
	}
	if prompt > 0 {
		r.PrefillTPS, r.FirstTokenMS = float64(prompt)/median(prefill), 1e3*median(prefill)
	}
	if n > 0 {
		r.DecodeTPS = float64(n) / median(decode)
	}
	r.RSSMB = residentMB()
	return nil
}

// feed runs n tokens, some ids or other, in the pieces that Generate would use.
func feed(m *qwen.Model, cache *qwen.Cache, n int) error {
	for n > 0 {
		ids := make([]int, min(n, qwen.PrefillChunk))
		for i := range ids {
			ids[i] = (cache.Len() + i) * 7919 % m.Config.Vocab
		}
		if _, err := m.Forward(ids, cache); err != nil {
			return err
		}
		n -= len(ids)
	}
	return nil
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// residentMB is the memory that the process holds now, 0 where the system does
// not tell.
func residentMB() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			if err == nil {
				return kb / 1024
			}
		}
	}
	return 0
}

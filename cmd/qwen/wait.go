package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/bc1a8f18/qwen"
)

// patience is how long something may take before a person wants to know why.
const patience = time.Second

// waiting shows on stderr what takes long, if that is a terminal and it does take
// long. The function that it returns ends it and clears the line.
func waiting(what func() string) (done func()) {
	if !isTerminal(os.Stderr) {
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		shown := false
		for wait := patience; ; wait = patience / 5 {
			select {
			case <-stop:
				if shown {
					fmt.Fprint(os.Stderr, "\r\x1b[K")
				}
				return
			case <-time.After(wait):
				fmt.Fprintf(os.Stderr, "\r\x1b[K%s", what())
				shown = true
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// readPrompt brings all of ids but the last piece into the cache and shows how far
// it is: the same pieces that Generate would run, which then finds them there. It
// does so only where somebody looks on. An error is left for Generate to find again.
func readPrompt(ctx context.Context, m *qwen.Model, ids []int, cache *qwen.Cache) {
	have, n := cache.Tokens(), 0
	for n < len(have) && n < len(ids) && have[n] == ids[n] {
		n++
	}
	if !isTerminal(os.Stderr) || len(ids)-n <= qwen.PrefillChunk || len(ids) > m.Config.MaxPositions {
		return
	}
	cache.Truncate(n)
	var at atomic.Int64
	at.Store(int64(n))
	defer waiting(func() string { return fmt.Sprintf("reading the prompt: %d of %d tokens", at.Load(), len(ids)) })()
	for len(ids)-n > qwen.PrefillChunk && ctx.Err() == nil {
		if _, err := m.Forward(ids[n:n+qwen.PrefillChunk], cache); err != nil {
			return
		}
		n += qwen.PrefillChunk
		at.Store(int64(n))
	}
}

package qwen

// The cache is what makes decode cheap. A token's keys and values do not change
// when later tokens arrive, since no token looks ahead; so they are computed once
// and kept, and each new token costs one pass over the weights and one look at
// the kept rows, instead of the whole text again.
//
//	per layer:  keys   [tokens, kvHeads*headDim]     after q/k norm and RoPE
//	            values [tokens, kvHeads*headDim]
//
// In Qwen2.5-0.5B that is 24 layers of 2*128 numbers (2 kvHeads of 64), each float32:
// 24 KiB a token. config.go has the other sizes.
//
// Reference: transformers cache_utils.py, DynamicCache.
//
// Next: generate.go

import (
	"fmt"
	"slices"
)

// A Cache holds the keys and values of one conversation. It belongs to the model
// that made it and to one goroutine at a time. It grows as tokens come in, up to
// the model's context; Truncate takes it back to a prefix.
type Cache struct {
	model        *Model
	tokens       []int       // whose keys and values are here
	keys, values [][]float32 // one [len(tokens), kvHeads*headDim] a layer
}

// NewCache returns an empty cache for m.
func (m *Model) NewCache() *Cache {
	return &Cache{model: m, keys: make([][]float32, len(m.Layers)), values: make([][]float32, len(m.Layers))}
}

// Len returns the number of tokens in the cache: the position of the next one.
func (c *Cache) Len() int { return len(c.tokens) }

// Tokens returns a copy of the ids in the cache.
func (c *Cache) Tokens() []int { return slices.Clone(c.tokens) }

// Truncate keeps the first n tokens. Another continuation of them can follow, as
// if the rest had never been there. Panics unless 0 <= n <= Len().
func (c *Cache) Truncate(n int) {
	if n < 0 || n > len(c.tokens) {
		panic(fmt.Sprintf("qwen: Cache.Truncate: n %d, want 0 to %d", n, len(c.tokens)))
	}
	c.tokens = c.tokens[:n]
}

// extend appends the keys and values of new tokens to layer i and returns those
// of all tokens: [past+seq, kvHeads*headDim]. The tokens count as cached only
// when the forward pass has gone through every layer, so that one that fails
// leaves no trace.
func (c *Cache) extend(i int, k, v []float32) (keys, values []float32) {
	past := len(c.tokens) * c.model.Config.KVHeads * c.model.Config.HeadDim
	c.keys[i] = append(c.keys[i][:past], k...)
	c.values[i] = append(c.values[i][:past], v...)
	return c.keys[i], c.values[i]
}

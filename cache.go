package qwen

// The cache is what makes decode cheap. A token's keys and values do not change
// when later tokens arrive, since no token looks ahead; so they are computed once
// and kept, and each new token costs one pass over the weights and one look at
// the kept rows, instead of the whole text again.
//
//	per layer and kvHead:  keys   [tokens, headDim]     after q/k norm and RoPE
//	                       values [tokens, headDim]
//
// The rows of one head lie one after the other, because attention reads them head by
// head: from the first to the last, once for each new token.
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
// that made it and to one goroutine at a time. Truncate takes it back to a prefix.
//
// It grows as tokens come in, by 2*Layers*KVHeads*HeadDim*4 bytes each: in Qwen3-0.6B
// 224 KiB, which is 9 GB for the whole context. Nothing but dropping the Cache frees that.
type Cache struct {
	model        *Model
	tokens       []int         // whose keys and values are here
	keys, values [][][]float32 // [layers][kvHeads] of [len(tokens), headDim]
}

// NewCache returns an empty cache for m.
func (m *Model) NewCache() *Cache {
	c := &Cache{model: m}
	for range m.Layers {
		c.keys = append(c.keys, make([][]float32, m.Config.KVHeads))
		c.values = append(c.values, make([][]float32, m.Config.KVHeads))
	}
	return c
}

// Len returns the number of tokens in the cache: the position of the next one.
func (c *Cache) Len() int { return len(c.tokens) }

// Tokens returns a copy of the ids in the cache.
func (c *Cache) Tokens() []int { return slices.Clone(c.tokens) }

// Truncate keeps the first n tokens. Another continuation of them can follow, as
// if the rest had never been there. It frees no memory: the next tokens overwrite what
// was cut off. Panics unless 0 <= n <= Len().
func (c *Cache) Truncate(n int) {
	if n < 0 || n > len(c.tokens) {
		panic(fmt.Sprintf("qwen: Cache.Truncate: n %d, want 0 to %d", n, len(c.tokens)))
	}
	c.tokens = c.tokens[:n]
}

// extend appends the keys and values of new tokens, [seq, kvHeads, headDim], to layer
// i and returns those of all tokens: [kvHeads] of [past+seq, headDim]. The tokens
// count as cached only when the forward pass has gone through every layer, so that
// a pass that fails changes nothing.
func (c *Cache) extend(i int, k, v []float32) (keys, values [][]float32) {
	headDim := c.model.Config.HeadDim
	c.reserve(i, len(k)/(len(c.keys[i])*headDim))
	appendHeads(c.keys[i], k, headDim)
	appendHeads(c.values[i], v, headDim)
	return c.keys[i], c.values[i]
}

// appendHeads appends to each head its rows of x, [seq, len(heads), headDim].
func appendHeads(heads [][]float32, x []float32, headDim int) {
	width := len(heads) * headDim
	parallel(len(heads), max(1, share/max(1, len(x)/len(heads))), func(from, to int) {
		for h := from; h < to; h++ {
			for at := h * headDim; at < len(x); at += width {
				heads[h] = append(heads[h], x[at:at+headDim]...)
			}
		}
	})
}

// Reserve makes room for n more tokens at once. Generate does it for a long prompt; without
// it the cache is copied as often as it has to grow. It changes nothing else.
func (c *Cache) Reserve(n int) {
	for i := range c.keys {
		c.reserve(i, n)
	}
}

// reserve takes layer i back to the cached tokens and makes room for n more. Where there is
// none it makes room for another 64, or a 32nd of all: attention reads all rows for each
// token anyway, so to copy them for every 64th adds a twentieth to that, and little
// memory lies unused. append would add a quarter.
func (c *Cache) reserve(i, n int) {
	headDim := c.model.Config.HeadDim
	past, total := len(c.tokens), len(c.tokens)+n
	for _, heads := range [][][]float32{c.keys[i], c.values[i]} {
		for h, rows := range heads {
			if rows = rows[:past*headDim]; cap(rows) < total*headDim {
				rows = append(make([]float32, 0, (total+max(64, total/32))*headDim), rows...)
			}
			heads[h] = rows
		}
	}
}

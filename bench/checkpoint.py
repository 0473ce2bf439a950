#!/usr/bin/env python3
"""Writes a checkpoint of real size with random bf16 weights: speed does not depend on their values. Needs numpy.

    bench/checkpoint.py {qwen2.5-0.5b,qwen3-0.6b} FOLDER
"""
import json, math, os, struct, sys
import numpy

COMMON = dict(vocab_size=151936, rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=True, torch_dtype='bfloat16', hidden_act='silu',
              bos_token_id=151643, eos_token_id=151645)
MODELS = {
    'qwen2.5-0.5b': dict(model_type='qwen2', architectures=['Qwen2ForCausalLM'], hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
                         num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32768, use_sliding_window=False),
    'qwen3-0.6b': dict(model_type='qwen3', architectures=['Qwen3ForCausalLM'], hidden_size=1024, intermediate_size=3072, num_hidden_layers=28,
                       num_attention_heads=16, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, attention_bias=False),
}

def tensors(c):
    hidden, wide = c['hidden_size'], c['intermediate_size']
    head = c.get('head_dim', hidden // c['num_attention_heads'])
    q, kv = c['num_attention_heads'] * head, c['num_key_value_heads'] * head
    yield 'model.embed_tokens.weight', (c['vocab_size'], hidden)
    for i in range(c['num_hidden_layers']):
        at = f'model.layers.{i}.'
        yield at + 'input_layernorm.weight', (hidden,)
        yield at + 'post_attention_layernorm.weight', (hidden,)
        for name, shape in dict(q=(q, hidden), k=(kv, hidden), v=(kv, hidden), o=(hidden, q)).items():
            yield f'{at}self_attn.{name}_proj.weight', shape
            if c['model_type'] == 'qwen2' and name != 'o':
                yield f'{at}self_attn.{name}_proj.bias', shape[:1]
        if c['model_type'] == 'qwen3':
            yield at + 'self_attn.q_norm.weight', (head,)
            yield at + 'self_attn.k_norm.weight', (head,)
        for name, shape in dict(gate=(wide, hidden), up=(wide, hidden), down=(hidden, wide)).items():
            yield f'{at}mlp.{name}_proj.weight', shape
    yield 'model.norm.weight', (hidden,)

def main():
    config, folder = COMMON | MODELS[sys.argv[1]], sys.argv[2]
    header, end = {}, 0
    for name, shape in tensors(config):
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = dict(dtype='BF16', shape=shape, data_offsets=[begin, end])
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    random = numpy.random.default_rng(1)
    os.makedirs(folder, exist_ok=True)
    with open(folder + '/model.safetensors', 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        for name, shape in tensors(config):
            x = random.standard_normal(math.prod(shape), dtype=numpy.float32) * numpy.float32(0.02) + numpy.float32('norm' in name)
            f.write((x.view('<u4') >> 16).astype('<u2').tobytes())
    json.dump(config, open(folder + '/config.json', 'w'), indent=1)
    json.dump(dict(eos_token_id=[151645, 151643]), open(folder + '/generation_config.json', 'w'))

main()

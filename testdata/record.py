"""Makes every recording that the tests compare with. transformers does all the computing.

    pip install -r testdata/requirements.txt
    python testdata/record.py            writes the files
    python testdata/record.py --check    writes them elsewhere and compares the bytes

The models are random and tiny, but no two widths are equal: a test where hidden were
heads*headDim, or the group were kvHeads, would not see the two exchanged. transformers starts
norms at 1 and biases at 0, where leaving them out changes nothing; here they are random.
The scale of the weights is such that scores spread over several units and no op is
negligible, so that a mistake anywhere moves the logits far beyond rounding.

README.md says what is in which file.
"""

import os

# The order of float32 sums depends on the width of the CPU's vectors. Fixing it, the library's
# code path and one thread is what makes the bytes the same from run to run, and on like machines.
os.environ["ATEN_CPU_CAPABILITY"] = "default"
os.environ["MKL_CBWR"] = "COMPATIBLE"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import argparse
import hashlib
import json
import math
import pathlib
import sys
import tempfile

import torch
from safetensors import safe_open
from torch import nn
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.activations import ACT2FN
from transformers.cache_utils import DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

from trace import load, trace, versions, write

torch.set_num_threads(1)
torch.backends.mkldnn.enabled = False
torch.set_grad_enabled(False)

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16


def random(seed):
    """Returns a function that draws nearly normal numbers of a shape: mean 0, deviation 1, at most 3.5.

    Sums of four integers, for torch.randn differs in its last bits from processor to processor.
    """
    g = torch.Generator().manual_seed(seed)
    n = 1 << 22
    return lambda *shape: torch.randint(-n, n, (4, *shape), generator=g).sum(0).to(F32) / (n * math.sqrt(4 / 3))


# ---------------------------------------------------------------------------- models

# These rows of every embedding are 250 times smaller than the others. On a row of ordinary
# size eps = 1e-5 and 1e-6 differ by 5e-6, which no test can see; on these by half.
TINY_ROWS = (7, 23, 41)

# So is the first query head and the first key head of Qwen3, for the eps of its q and k norm.
TINY_HEAD = 1e-3


def randomise(model, seed, quiet=False):
    """Fills every parameter with random numbers at a scale where each of them matters.

    quiet makes the whole residual stream small, so that the eps of every norm matters.
    """
    rand = random(seed)
    qk_norm = model.config.model_type == "qwen3"
    for name, p in model.named_parameters():
        part = name.split(".")[-2]
        fan_in = p.shape[-1]
        r = rand(*p.shape)
        if part in ("q_norm", "k_norm"):
            r = 1.3 + 0.4 * r.clamp(-2, 2)
        elif part.endswith("norm"):
            r = 1 + 0.3 * r.clamp(-2, 2)
        elif name.endswith("bias"):
            r = 0.6 * r
        elif part == "embed_tokens":
            r = 0.25 * r  # small beside the layers' part, or a tied head would only repeat its input
            r[list(TINY_ROWS)] *= 4e-3
        elif part == "lm_head":
            r = 3 * r / math.sqrt(fan_in)
        elif part in ("q_proj", "k_proj"):
            r = (1 if qk_norm else 1.4) * r / math.sqrt(fan_in)
            if qk_norm and not model.config.attention_bias:
                r[: model.config.head_dim] *= TINY_HEAD
        else:
            r = 1.5 * r / math.sqrt(fan_in)
        if quiet and part in ("embed_tokens", "o_proj", "down_proj"):
            r *= 3e-3
        p.copy_(r)
    return model


def qwen3(**kw):
    c = dict(
        vocab_size=61, hidden_size=20, num_attention_heads=6, num_key_value_heads=2, head_dim=6,
        intermediate_size=28, num_hidden_layers=2, max_position_embeddings=128, rms_norm_eps=1e-6,
        tie_word_embeddings=True, eos_token_id=60,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    )  # fmt: skip
    return Qwen3Config(**{**c, **kw})


def qwen2(**kw):
    c = dict(
        vocab_size=61, hidden_size=24, num_attention_heads=6, num_key_value_heads=2,
        intermediate_size=28, num_hidden_layers=2, max_position_embeddings=128, rms_norm_eps=1e-5,
        tie_word_embeddings=True, eos_token_id=60,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )  # fmt: skip
    return Qwen2Config(**{**c, **kw})


def all_(dtype):
    return lambda name: dtype


def mixed(name):
    """Norms and biases F32, the embedding F16, the projections BF16."""
    if "norm" in name or name.endswith("bias"):
        return F32
    return F16 if "embed" in name else BF16


def published(**kw):
    """Rewrites a config.json as the published ones are: rope_theta and torch_dtype at the top."""

    def edit(c):
        rope = c.pop("rope_parameters")
        c.pop("layer_types")
        c["rope_theta"] = rope["rope_theta"]
        c["torch_dtype"] = c.pop("dtype")
        c["sliding_window"] = 128
        c["transformers_version"] = "4.51.0"
        c.update(kw)
        return c

    return edit


def yarn(**kw):
    return {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64, **kw}


# YaRN's ramp needs more than three frequencies, and numbers with which both its ends lie inside them.
WIDE = dict(head_dim=16, hidden_size=20, num_attention_heads=4, max_position_embeddings=256, rope_parameters=yarn())
WIDE2 = {**WIDE, "hidden_size": 32}

# name, config, dtype of a parameter by its name, shard size, edit of config.json, seed
VARIANTS = [
    ("qwen3-f32-untied", qwen3(tie_word_embeddings=False), all_(F32), None, None, 9),
    ("qwen3-f16-published", qwen3(), all_(F16), None, published(rope_scaling=None), 12),
    ("qwen3-bf16-sharded", qwen3(tie_word_embeddings=False), all_(BF16), "8KB", None, 2),
    ("qwen3-mixed", qwen3(), mixed, None, None, 64),
    ("qwen3-bias", qwen3(attention_bias=True), all_(BF16), None, None, 47),
    ("qwen3-group1", qwen3(num_key_value_heads=6), all_(BF16), None, None, 33),
    ("qwen3-kvheads1", qwen3(num_key_value_heads=1), all_(BF16), None, None, 18),
    ("qwen3-quiet", qwen3(tie_word_embeddings=False, rms_norm_eps=1e-5), all_(BF16), None, None, 43),
    ("qwen3-linear", qwen3(), all_(BF16), None, published(rope_scaling={"type": "linear", "factor": 2.5}), 8),
    ("qwen3-yarn", qwen3(**WIDE), all_(BF16), None,
     published(rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}), 1),
    ("qwen3-yarn-truncate", qwen3(**{**WIDE, "rope_parameters": yarn(truncate=False, beta_fast=4, beta_slow=0.5, factor=3)}),
     all_(BF16), None, None, 7),
    ("qwen2-bf16-published", qwen2(), all_(BF16), None, published(max_window_layers=1), 5),
    ("qwen2-f16-untied-sharded", qwen2(tie_word_embeddings=False), all_(F16), "8KB", None, 4),
    ("qwen2-mixed", qwen2(), mixed, None, None, 52),
    ("qwen2-headdim", qwen2(head_dim=10, num_attention_heads=4), all_(BF16), None, None, 14),
    ("qwen2-odd", qwen2(hidden_size=33, head_dim=14, num_attention_heads=3, num_key_value_heads=1, intermediate_size=65),
     all_(BF16), None, None, 34),
    ("qwen2-yarn-factor", qwen2(**WIDE2), all_(BF16), None,
     published(rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64,
                             "attention_factor": 1.3}), 30),
    ("qwen2-yarn-mscale", qwen2(**{**WIDE2, "max_position_embeddings": 64, "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "mscale": 4.0, "mscale_all_dim": 0.5}}),
     all_(BF16), None, None, 2),
    ("qwen2-stop", qwen2(), all_(BF16), None, None, 111),
]  # fmt: skip

TINY = [
    ("qwen3-tiny", qwen3(vocab_size=97, hidden_size=36, head_dim=10, intermediate_size=52, max_position_embeddings=160,
                         eos_token_id=96), all_(BF16), None, None, 12),
    ("qwen2-tiny", qwen2(vocab_size=97, hidden_size=48, intermediate_size=68, tie_word_embeddings=False,
                         eos_token_id=96), all_(F32), None, None, 23),
]  # fmt: skip


def save(folder, config, dtype_of, shard, edit, seed):
    """Writes a checkpoint as transformers does, then rewrites config.json if the style is the point."""
    cls = Qwen3ForCausalLM if config.model_type == "qwen3" else Qwen2ForCausalLM
    model = randomise(cls(config), seed, quiet=folder.name.endswith("quiet"))
    for name, p in model.named_parameters():
        p.data = p.data.to(dtype_of(name))
    # What the file says of itself: the type of most weights.
    model.config.dtype = dtype_of("model.layers.0.self_attn.q_proj.weight")
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    if edit:
        path = folder / "config.json"
        c = edit(json.loads(path.read_text()))
        path.write_text(json.dumps(c, indent=2, sort_keys=True) + "\n")


def prompts(vocab, seed):
    """Three prompts of 5, 9 and 23 ids; each has a row of the embedding that is tiny."""
    g = torch.Generator().manual_seed(1000 + seed)
    result = []
    for n, tiny in zip((5, 9, 23), TINY_ROWS):
        ids = torch.randint(0, vocab - 1, (n,), generator=g)
        ids[n // 3] = tiny
        result.append(ids)
    return result


def generate(model, ids, n=24, **kw):
    """Returns the greedy continuation, the logits of each step, and the smallest lead of an id over the next."""
    model.generation_config = GenerationConfig()  # nothing but what is said here
    config = GenerationConfig(do_sample=False, max_new_tokens=n, pad_token_id=0, **kw)
    out = model.generate(
        ids[None], attention_mask=torch.ones_like(ids)[None], generation_config=config,
        return_dict_in_generate=True, output_logits=True, output_scores=True,
    )  # fmt: skip
    top = torch.stack([s[0].topk(2).values for s in out.scores])
    return out.sequences[0, len(ids) :], torch.cat(out.logits), (top[:, 0] - top[:, 1]).min().item()


# An id that leads by less than this could fall either way in another order of summation.
MARGIN = 1e-2


def golden(folder, seed, steps=False, stop=None):
    """Records what transformers says of a checkpoint, with weights widened to float32."""
    model = load(folder)
    tensors, meta = {}, versions()
    for i, ids in enumerate(prompts(model.config.vocab_size, seed)):
        greedy, logits, margin = generate(model, ids)
        assert len(greedy) == 24 and margin > MARGIN, (folder, i, len(greedy), margin)
        assert len(greedy.unique()) >= 8 and model.config.eos_token_id not in greedy, (folder, i, greedy)
        tensors[f"prompt.{i}"] = ids
        tensors[f"logits.{i}"] = model(ids[None]).logits[0]
        tensors[f"greedy.{i}"] = greedy
        meta[f"margin.{i}"] = f"{margin:.4f}"
        if steps and i == 1:
            tensors[f"steps.{i}"] = logits
    if stop is not None:
        # Greedy decoding again, ended by a list of ids, and with a penalty on what was said already.
        ids = tensors["prompt.0"]
        eos = [60, tensors["greedy.0"][stop].item()]
        tensors["stop.ids"] = torch.tensor(eos)
        tensors["stop.greedy"], _, _ = generate(model, ids, eos_token_id=eos)
        assert 2 < len(tensors["stop.greedy"]) <= stop + 1
        tensors["penalty.greedy"], _, margin = generate(model, ids, repetition_penalty=1.5)
        assert margin > MARGIN and not torch.equal(tensors["penalty.greedy"], tensors["greedy.0"]), margin
        meta["penalty"] = "1.5"
        (folder / "generation_config.json").write_text(json.dumps({
            "bos_token_id": 1, "do_sample": True, "eos_token_id": eos, "pad_token_id": 0, "repetition_penalty": 1.1,
            "temperature": 0.7, "top_k": 20, "top_p": 0.8, "transformers_version": "4.51.0"}, indent=2) + "\n")  # fmt: skip
    write(folder / "golden.safetensors", tensors, meta)


def record_models(out):
    for name, *how in TINY:
        save(out / name, *how)
        golden(out / name, how[-1], steps=True)
        ids = prompts(97, how[-1])[1][:8].tolist()
        ids[5] = ids[1]  # one id twice: same embedding, other position
        write(out / name / "trace.safetensors", trace(load(out / name), ids),
              {**versions(), "dtype": "float32", "model_type": name[:5]})  # fmt: skip
    for name, *how in VARIANTS:
        save(out / "variants" / name, *how)
        golden(out / "variants" / name, how[-1], stop=11 if name == "qwen2-stop" else None)


# ---------------------------------------------------------------------------- functions


class Cases:
    """The recordings of one function: tensors NAME.in, NAME.out, …, metadata NAME.parameter, and the order."""

    def __init__(self, seed):
        self.tensors, self.meta, self.names, self.rand = {}, versions(), [], random(seed)

    def add(self, name, tensors, **parameters):
        self.names.append(name)
        for k, t in tensors.items():
            self.tensors[f"{name}.{k}"] = t.clone()
        for k, v in parameters.items():
            self.meta[f"{name}.{k}"] = json.dumps(v) if isinstance(v, (dict, list)) else repr(v).strip("'")

    def write(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, self.tensors, {**self.meta, "cases": " ".join(self.names)})


def embedding(c):
    ids, table = torch.tensor([0, 30, 7, 7, 1, 29]), c.rand(31, 12)
    for dtype in (F32, F16, BF16):
        module, w = nn.Embedding(31, 12), table.to(dtype)
        module.weight.copy_(w)
        c.add(str(dtype)[6:], {"ids": ids, "weight": w, "out": module(ids)})


def linear(c):
    widths = [1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 36, 52, 63, 64, 65, 100, 130]
    for i, dtype in enumerate((F32, F16, BF16)):
        for n, width in enumerate(widths):
            rows = widths[(7 * n + 2 * i) % 9]  # 1 … 31
            seq, bias = (1, 2, 5, 13)[(n + i) % 4], (n + i) % 2 == 0
            record_linear(c, seq, width, rows, dtype, bias)
    record_linear(c, 3, 65, 259, BF16, False)  # enough rows to be split over threads


def record_linear(c, seq, width, rows, dtype, bias):
    module = nn.Linear(width, rows, bias=bias)
    w, x = c.rand(rows, width).to(dtype), c.rand(seq, width)
    module.weight.copy_(w)
    tensors = {"in": x, "weight": w}
    if bias:
        tensors["bias"] = c.rand(rows).to(dtype)
        module.bias.copy_(tensors["bias"])
    tensors["out"] = module(x)
    name = f"{str(dtype)[6:]}-seq{seq}-in{width}-out{rows}" + ("-bias" if bias else "")
    c.add(name, tensors)


def rmsnorm(c):
    for n, width in enumerate((1, 3, 8, 10, 33, 36, 64, 100)):
        for eps in (1e-5, 1e-6):
            cls = (modeling_qwen2.Qwen2RMSNorm, modeling_qwen3.Qwen3RMSNorm)[n % 2]
            module = cls(width, eps=eps)
            module.weight.copy_(1 + 0.5 * c.rand(width))
            # Rows of size 1, 1e-3 and 1e3; one far from mean 0; one of zeros; one that float32 squares still hold.
            x = c.rand(6, width) * torch.tensor([1, 1e-3, 1e3, 0.3, 0, 1e15])[:, None]
            x[3] += 2
            c.add(f"width{width}-eps{eps:.0e}", {"in": x, "weight": module.weight, "out": module(x)}, eps=eps)


def qknorm(c, model):
    attention = model.model.layers[1].self_attn
    for name, module, heads in (("q", attention.q_norm, 6), ("k", attention.k_norm, 2)):
        x = c.rand(5, heads, 10) * torch.tensor([1, 1e-3, 30, 1, 1])[:, None, None] + 0.4
        x[1] -= 0.4
        c.add(name, {"in": x, "weight": module.weight, "out": module(x)}, eps=module.variance_epsilon)


def rope(c):
    far, near, later = [0, 1, 4, 100, 4096, 32767], list(range(6)), list(range(9, 15))
    default = {"rope_type": "default"}
    y = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    cases = [
        # name, headDim, heads, positions, max_position_embeddings, rope_parameters
        ("default-10", 10, 6, far, 32768, {**default, "rope_theta": 1e6}),
        ("default-10-near", 10, 2, near, 32768, {**default, "rope_theta": 1e6}),
        ("default-8-later", 8, 3, later, 32768, {**default, "rope_theta": 1e4}),
        ("default-64", 64, 2, far, 32768, {**default, "rope_theta": 1e6}),
        ("default-128", 128, 1, far, 40960, {**default, "rope_theta": 1e6}),
        ("linear-10", 10, 2, far, 32768, {"rope_type": "linear", "rope_theta": 1e6, "factor": 4.0}),
        ("linear-64", 64, 1, far, 32768, {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.5}),
        ("yarn-64", 64, 1, far, 131072, {**y, "rope_theta": 1e6}),
        ("yarn-128", 128, 1, far, 131072, {**y, "rope_theta": 1e6}),
        ("yarn-16-near", 16, 3, near, 64, {**y, "rope_theta": 1e4, "original_max_position_embeddings": 16}),
        ("yarn-betas", 64, 1, far, 131072, {**y, "rope_theta": 1e6, "beta_fast": 8, "beta_slow": 2.0}),
        ("yarn-untruncated", 64, 1, far, 131072, {**y, "rope_theta": 1e6, "truncate": False}),
        ("yarn-attention-factor", 16, 2, far, 131072, {**y, "rope_theta": 1e6, "attention_factor": 0.7}),
        ("yarn-mscale", 16, 2, far, 131072, {**y, "rope_theta": 1e6, "mscale": 1.2, "mscale_all_dim": 0.4}),
        ("yarn-mscale-alone", 16, 2, far, 131072, {**y, "rope_theta": 1e6, "mscale": 1.2}),
        ("yarn-no-original", 16, 2, far, 4096, {"rope_type": "yarn", "rope_theta": 1e6, "factor": 8}),
        ("yarn-factor1", 16, 1, far, 4096, {**y, "rope_theta": 1e6, "factor": 1.0}),
    ]  # fmt: skip
    for name, dim, heads, positions, longest, parameters in cases:
        config = qwen3(head_dim=dim, max_position_embeddings=longest, rope_parameters=dict(parameters))
        module = modeling_qwen3.Qwen3RotaryEmbedding(config)
        pos = torch.tensor(positions)
        x = c.rand(len(positions), heads, dim)
        cos, sin = module(x, pos[None])
        out, _ = modeling_qwen3.apply_rotary_pos_emb(x.transpose(0, 1)[None], x.transpose(0, 1)[None], cos, sin)
        half = dim // 2
        c.add(name, {
            "positions": pos, "in": x, "out": out[0].transpose(0, 1), "inv_freq": module.inv_freq,
            "cos": cos[0, :, :half], "sin": sin[0, :, :half],
            "attention_scaling": torch.tensor([module.attention_scaling], dtype=F32),
        }, rope_parameters=parameters, max_position_embeddings=longest)  # fmt: skip


def softmax(c):
    rows = {}
    for n in (1, 2, 3, 7, 8, 9, 17, 33, 100):
        rows[f"length{n}"] = 3 * c.rand(n)
    rows["high"] = 1000 + 2 * c.rand(11)
    rows["low"] = -1000 + 2 * c.rand(11)
    rows["negative"] = torch.tensor([-110.0, -111.0])
    rows["one-high"] = torch.tensor([1000.0])
    rows["one-low"] = torch.tensor([-1000.0])
    rows["apart"] = torch.tensor([1000.0, -1000.0, 999.0, 0.0])
    rows["equal"] = torch.full((5,), 7.25)
    rows["masked"] = torch.cat([2 * c.rand(4), torch.full((3,), -math.inf)])
    rows["masked-first"] = torch.cat([torch.full((2,), -math.inf), 2 * c.rand(3)])
    rows["masked-min"] = torch.cat([2 * c.rand(4), torch.full((3,), torch.finfo(F32).min)])
    for name, x in rows.items():
        c.add(name, {"in": x, "out": nn.functional.softmax(x, dim=-1, dtype=F32)})


def attention(c):
    cases = [
        # heads, kvHeads, headDim, past, seq, scale of q
        (6, 2, 10, 0, 7, 2), (6, 2, 10, 0, 1, 2), (6, 2, 10, 5, 1, 2), (6, 2, 10, 4, 3, 2),
        (4, 4, 8, 0, 5, 2), (4, 4, 8, 3, 2, 2), (4, 1, 6, 2, 4, 2), (8, 2, 12, 0, 4, 2),
        (6, 2, 64, 9, 2, 2), (6, 2, 10, 2, 5, 300), (6, 2, 34, 17, 3, 2),
    ]  # fmt: skip
    for heads, kv_heads, dim, past, seq, scale in cases:
        config = qwen3(num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=dim, num_hidden_layers=1)
        config._attn_implementation = "eager"
        module = modeling_qwen3.Qwen3Attention(config, 0).eval()
        total = past + seq
        q, k, v = scale * c.rand(seq, heads, dim), c.rand(total, kv_heads, dim), c.rand(total, kv_heads, dim)
        # The mask that the model makes when `past` tokens lie in its cache.
        cache = DynamicCache(config=config)
        if past:
            cache.update(k[:past].transpose(0, 1)[None], v[:past].transpose(0, 1)[None], 0)
        mask = create_causal_mask(
            config=config, inputs_embeds=torch.zeros(1, seq, config.hidden_size), attention_mask=None,
            past_key_values=cache, position_ids=torch.arange(past, total)[None],
        )  # fmt: skip
        assert seq == 1 or mask.shape == (1, 1, seq, total)
        q4, k4, v4 = (t.transpose(0, 1)[None] for t in (q, k, v))
        out, probs = modeling_qwen3.eager_attention_forward(module, q4, k4, v4, mask, scaling=module.scaling)
        name = f"heads{heads}-kv{kv_heads}-dim{dim}-past{past}-seq{seq}" + ("-loud" if scale > 2 else "")
        c.add(name, {"q": q, "k": k, "v": v, "probs": probs[0], "out": out[0].reshape(seq, -1)},
              heads=heads, kv_heads=kv_heads, head_dim=dim, past=past)  # fmt: skip


def silu(c):
    special = [0.0, -0.0, 1e-30, -1e-30, 1.0, -1.0, 20.0, -20.0, 87.0, -87.0, 88.8, -88.8, 100.0, -100.0, 1e4, -1e4]
    x = torch.cat([torch.tensor(special), 4 * c.rand(83)])
    c.add("values", {"in": x, "out": ACT2FN["silu"](x)})


def ffn(c):
    shapes = [(36, 52, 5, BF16), (24, 68, 1, F32), (33, 65, 3, F16), (7, 9, 13, BF16)]
    for n, (hidden, intermediate, seq, dtype) in enumerate(shapes):
        config = (qwen2, qwen3)[n % 2](hidden_size=hidden, intermediate_size=intermediate, head_dim=6)
        module = (modeling_qwen2.Qwen2MLP, modeling_qwen3.Qwen3MLP)[n % 2](config)
        tensors = {"in": c.rand(seq, hidden)}
        for part in ("gate", "up", "down"):
            p = getattr(module, part + "_proj").weight
            w = (1.5 * c.rand(*p.shape) / math.sqrt(p.shape[1])).to(dtype)
            p.copy_(w)
            tensors[part] = w
        tensors["out"] = module(tensors["in"])
        c.add(f"hidden{hidden}-intermediate{intermediate}-{str(dtype)[6:]}", tensors)


def block(c, models):
    for name, model in models.items():
        inner, hidden = model.model, model.config.hidden_size
        for i, layer in enumerate(inner.layers):
            x = c.rand(7, hidden)[None]
            x[0, 2] *= 1e-3
            position_ids = torch.arange(7)[None]
            mask = create_causal_mask(config=model.config, inputs_embeds=x, attention_mask=None,
                                      past_key_values=None, position_ids=position_ids)  # fmt: skip
            y = layer(x, attention_mask=mask, position_ids=position_ids, position_embeddings=inner.rotary_emb(x, position_ids))
            c.add(f"{name}.{i}", {"in": x[0], "out": y[0]}, layer=i)


def head(c, models):
    for name, model in models.items():
        x = c.rand(4, model.config.hidden_size) * torch.tensor([1, 1e-3, 100, 3])[:, None]
        y = model.model.norm(x)
        c.add(name, {"in": x, "norm": y, "logits": model.lm_head(y)}, eps=model.config.rms_norm_eps)


def sampling(c, model):
    off = dict(repetition_penalty=1.0, temperature=1.0, top_k=0, top_p=1.0, min_p=None)
    ids = torch.tensor([3, 3, 11, 96, 0, 3, 40, 11])
    normal = 3 * c.rand(97)
    normal[[3, 40]] = torch.tensor([7.5, -2.0])  # the penalty must see both signs
    flat, peaked = 0.1 * c.rand(97), torch.cat([torch.tensor([25.0]), c.rand(96)])
    tied = torch.round(2 * c.rand(97)) / 2
    small = torch.tensor([2.0, -1.0, 0.5, 1.75, 0.25])
    cases = [
        ("neutral", normal, {}),
        ("penalty", normal, dict(repetition_penalty=1.3)),
        ("penalty-reward", normal, dict(repetition_penalty=0.6)),
        ("temperature-low", normal, dict(temperature=0.3)),
        ("temperature-high", normal, dict(temperature=2.0)),
        ("top-k", normal, dict(top_k=20)),
        ("top-k-1", normal, dict(top_k=1)),
        ("top-k-over", small, dict(top_k=200)),
        ("top-k-all", small, dict(top_k=5)),
        ("top-k-tied", tied, dict(top_k=7)),
        ("top-p", normal, dict(top_p=0.8)),
        ("top-p-high", normal, dict(top_p=0.99)),
        ("top-p-tiny", normal, dict(top_p=0.001)),
        ("top-p-zero", normal, dict(top_p=0.0)),
        ("top-p-flat", flat, dict(top_p=0.5)),
        ("top-p-peaked", peaked, dict(top_p=0.9)),
        ("min-p", normal, dict(min_p=0.05)),
        ("min-p-one", normal, dict(min_p=1.0)),
        ("min-p-zero", normal, dict(min_p=0.0)),
        ("min-p-flat", flat, dict(min_p=0.9)),
        ("min-p-tied", tied, dict(min_p=0.3)),
        ("temperature-top-p", normal, dict(temperature=0.5, top_p=0.9)),
        ("temperature-min-p", normal, dict(temperature=2.0, min_p=0.1)),
        ("top-k-top-p", flat, dict(top_k=30, top_p=0.5)),
        ("top-k-min-p", normal, dict(top_k=4, min_p=0.02)),
        ("top-p-min-p", flat, dict(top_p=0.7, min_p=0.95)),
        ("penalty-top-k", normal, dict(repetition_penalty=1.8, top_k=10)),
        ("penalty-temperature", normal, dict(repetition_penalty=1.1, temperature=0.7)),
        ("qwen", normal, dict(repetition_penalty=1.05, temperature=0.7, top_k=20, top_p=0.8)),
        ("all", normal, dict(repetition_penalty=1.4, temperature=1.6, top_k=40, top_p=0.95, min_p=0.03)),
    ]  # fmt: skip
    for name, logits, how in cases:
        how = {**off, **how}
        config = GenerationConfig(do_sample=True, **how)
        config._eos_token_tensor = None
        # generate()'s own list, in its own order.
        filters = model._get_logits_processor(
            config, input_ids_seq_length=len(ids), device="cpu",
            model_kwargs={"attention_mask": torch.ones(1, len(ids), dtype=torch.int64)},
        )  # fmt: skip
        prompt = ids if len(logits) == 97 else torch.tensor([1, 4])
        scores = filters(prompt[None], logits[None].clone())[0]
        assert_clear(scores, logits, prompt, filters)
        how["min_p"] = how["min_p"] or 0.0
        c.add(name, {"ids": prompt, "in": logits, "out": scores, "probs": scores.softmax(-1)}, **how)
    c.add("logprobs", {"in": normal, "out": normal.log_softmax(-1)})
    c.add("argmax-tied", {"in": tied, "out": tied.argmax(-1, keepdim=True)})


def assert_clear(scores, logits, ids, filters):
    """No threshold of top_p or min_p may lie within rounding of a value, nor top_p cut between equals."""
    s = logits[None].clone()
    for f in filters:
        kind, before = type(f).__name__, s
        s = f(ids[None], s)
        p = before.softmax(-1)
        if kind == "TopPLogitsWarper":
            total = before.sort(descending=False).values.double().softmax(-1).cumsum(-1)
            assert f.top_p == 0 or (total - (1 - f.top_p)).abs().min() > 1e-5
            cut = before[torch.isinf(s) & ~torch.isinf(before)]
            assert len(cut) == 0 or cut.max() < s[~torch.isinf(s)].min()
        if kind == "MinPLogitsWarper" and 0 < f.min_p < 1:
            assert (p / p.max() - f.min_p).abs().min() > 1e-5
    assert torch.equal(s[0], scores)


def convert(c):
    """F16 and BF16 to float32, all 65,536 values: a checksum of the whole table and a sample of it to look at."""
    bits = torch.arange(65536, dtype=torch.int64)
    sample = sorted({*range(0, 40), *range(1020, 1030), *range(31740, 31750), *range(32630, 32650), *range(32766, 32776),
                     *range(65530, 65536), *range(0, 65536, 97)})  # fmt: skip
    for dtype in (F16, BF16):
        table = bits.to(torch.int16).view(dtype).float()
        table[table.isnan()] = math.nan  # the payload of a NaN is the processor's own business
        raw = table.numpy().astype("<f4").tobytes()
        s = torch.tensor(sample)
        c.add(str(dtype)[6:], {"in": s, "out": table[s]}, sha256=hashlib.sha256(raw).hexdigest())


def record_functions(out):
    models = {name: load(out / name) for name, *_ in TINY}
    recorders = [
        (convert,), (embedding,), (linear,), (rmsnorm,), (qknorm, models["qwen3-tiny"]), (rope,), (softmax,),
        (attention,), (silu,), (ffn,), (block, models), (head, models), (sampling, models["qwen3-tiny"]),
    ]  # fmt: skip
    for seed, (function, *args) in enumerate(recorders):
        c = Cases(seed)
        function(c, *args)
        c.write(out / "ops" / f"{function.__name__}.safetensors")


# ---------------------------------------------------------------------------- files


def record(out):
    record_models(out)
    record_functions(out)


def listing(root):
    """Every file that record.py makes, with its size and checksum."""
    names = [name for name, *_ in TINY] + ["variants", "ops"]
    files = sorted(f for name in names for f in (root / name).rglob("*") if f.is_file())
    return {str(f.relative_to(root)): (f.stat().st_size, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files}


def difference(a, b):
    """Says how far two recordings are apart: other hardware may round differently, and no more than that."""
    if not (a.exists() and b.exists()):
        return "(only one of the two)"
    if a.suffix != ".safetensors":
        return ""
    with safe_open(a, "pt") as x, safe_open(b, "pt") as y:
        if set(x.keys()) != set(y.keys()):
            return "(other tensors)"
        worst = 0.0
        for k in x.keys():
            s, t = x.get_tensor(k).double(), y.get_tensor(k).double()
            if s.shape != t.shape:
                return f"(shape of {k})"
            apart = (s - t).nan_to_num(0).abs().max().item()
            worst = max(worst, apart / max(s.nan_to_num(0, 0, 0).abs().max().item(), 1e-30))
    return f"(by {worst:.1e} of the largest value of a tensor)"


def main():
    p = argparse.ArgumentParser(description="Record what the tests compare with.")
    p.add_argument("--check", action="store_true", help="compare with the files that are here, write none")
    p.add_argument("-o", metavar="DIR", dest="out", help="write elsewhere")
    a = p.parse_args()
    here = pathlib.Path(__file__).resolve().parent
    if not a.check:
        out = pathlib.Path(a.out) if a.out else here
        record(out)
        files = listing(out)
        for name, (size, digest) in files.items():
            print(f"{digest[:16]} {size:8d} {name}")
        print(f"{sum(size for size, _ in files.values()):25d} bytes in {len(files)} files")
        return
    with tempfile.TemporaryDirectory() as tmp:
        record(pathlib.Path(tmp))
        want, got = listing(here), listing(pathlib.Path(tmp))
        differ = [name for name in sorted(want.keys() | got.keys()) if want.get(name) != got.get(name)]
        for name in differ:
            print(f"differs: {name} {difference(here / name, pathlib.Path(tmp) / name)}")
    print(f"{len(got) - len(differ)} of {len(got)} files as recorded")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()

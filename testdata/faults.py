"""Makes recordings of broken ports with transformers, and counts how often qwen diff is right.

    python testdata/faults.py --qwen ./qwen --dir /tmp/faults            # make, run, score
    python testdata/faults.py --qwen ./qwen --dir /tmp/faults --real DIR # good recordings of a real checkpoint too

Each fault replaces a module's forward, or one of the two functions that trace.py listens to,
in all layers or in one. What is recorded is then what a port with that mistake would record:
in full, or hidden_states alone ("coarse"). Nothing of it shares a line with the Go code.

A fault is left out where the recording cannot show it (the same numbers to 1e-6).
"""

import argparse
import concurrent.futures
import contextlib
import json
import math
import pathlib
import subprocess
import sys
import types

import safetensors
import torch
import transformers
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from record import qwen2, qwen3, randomise  # noqa: E402
from trace import load, recording, versions, write  # noqa: E402

HERE = pathlib.Path(__file__).parent
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class Port:
    """A model to be broken: its layers that are affected, and the source file of its class."""

    def __init__(self, model, layers):
        self.model, self.config = model, model.config
        self.source = sys.modules[type(model).__module__]
        self.every = len(layers) == len(model.model.layers)
        self.layers = [model.model.layers[i] for i in layers]
        self.first = min(layers)
        self.affected = set(layers)
        self.current = None  # the layer that is running
        self.drop = []  # names that this port does not record
        self.head_dim = model.model.layers[0].self_attn.head_dim
        for i, layer in enumerate(model.model.layers):
            layer.self_attn.register_forward_pre_hook(self.enter(i), with_kwargs=True)

    def enter(self, i):
        def hook(module, args, kwargs):
            self.current = i

        return hook

    def norms(self, which):
        for layer in self.layers:
            for name in which:
                owner = layer.self_attn if name in ("q_norm", "k_norm") else layer
                if name != "norm" and hasattr(owner, name):
                    yield getattr(owner, name)
        if "norm" in which and self.every:
            yield self.model.model.norm

    def rotate(self, f):
        """f(right, q, k, cos, sin) in the affected layers."""
        right = self.source.apply_rotary_pos_emb

        def rotated(q, k, cos, sin, **kw):
            if self.current in self.affected:
                return f(right, q, k, cos, sin)
            return right(q, k, cos, sin)

        self.source.apply_rotary_pos_emb = rotated

    def attend(self, f):
        right = self.source.eager_attention_forward

        def attended(module, q, k, v, mask, scaling, **kw):
            if module.layer_idx in self.affected:
                return f(right, module, q, k, v, mask, scaling)
            return right(module, q, k, v, mask, scaling, **kw)

        self.source.eager_attention_forward = attended


@contextlib.contextmanager
def restored(source):
    kept = source.apply_rotary_pos_emb, source.eager_attention_forward
    try:
        yield
    finally:
        source.apply_rotary_pos_emb, source.eager_attention_forward = kept


def half(x):
    return torch.cat((-x[..., x.shape[-1] // 2 :], x[..., : x.shape[-1] // 2]), -1)


def angles(p, q, theta=None, width=None, scale=1.0, offset=0.0, repeat=lambda f: torch.cat((f, f), -1)):
    """cos and sin, [1, 1, seq, headDim], by the textbook."""
    d = p.head_dim
    theta = theta or p.config.rope_parameters["rope_theta"]
    f = theta ** (-torch.arange(0, d, 2).float() / (width or d)) / scale
    a = (torch.arange(q.shape[2]).float()[:, None] + offset) * f[None]
    return repeat(a.cos())[None, None], repeat(a.sin())[None, None]


def turn(x, cos, sin):
    return x * cos + half(x) * sin


# --------------------------------------------------------------------------- the faults


def embed(f):
    def fault(p):
        m = p.model.model.embed_tokens
        m.forward = lambda ids: f(p, m, ids)

    return fault


def norm(which, f):
    """f(x, weight, eps) instead of the RMSNorm."""

    def fault(p):
        for m in p.norms(which):
            m.forward = types.MethodType(lambda self, x: f(x, self.weight, self.variance_epsilon), m)

    return fault


def rms(x, w, eps):
    return w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def norm_weight_of(which, other):
    def fault(p):
        for layer in p.layers:
            find = lambda n: getattr(layer.self_attn if n in ("q_norm", "k_norm") else layer, n)  # noqa: E731
            weights = {a: find(b).weight for a, b in zip(which, other)}
            for n in which:
                m = find(n)
                m.forward = types.MethodType(lambda self, x, w=weights[n]: rms(x, w, self.variance_epsilon), m)

    return fault


def linear(which, f):
    """f(x, weight, bias, the module that owns the projections, the layer)."""

    def fault(p):
        for layer in p.layers:
            for name in which:
                owner = layer.self_attn if hasattr(layer.self_attn, name) else layer.mlp
                m = getattr(owner, name)
                m.forward = types.MethodType(lambda self, x, owner=owner: f(x, self.weight, self.bias, owner), m)

    return fault


F = nn.functional


def weight_from(f):
    """Reads another layer's weights: f(i) for layer i."""

    def fault(p):
        all_ = p.model.model.layers
        weights = [{n: (w.clone()) for n, w in layer.named_parameters()} for layer in all_]
        for i in p.affected:
            for n, w in all_[i].named_parameters():
                if "proj" in n:
                    w.data = weights[f(i) % len(all_)][n]

    return fault


def not_normed(which):
    def fault(p):
        for layer in p.layers:
            stream = {}
            norm = layer.input_layernorm if which[0] in PROJECTIONS else layer.post_attention_layernorm
            norm.register_forward_pre_hook(lambda m, a, s=stream: s.__setitem__("x", a[0]))
            for name in which:
                owner = layer.self_attn if hasattr(layer.self_attn, name) else layer.mlp
                m = getattr(owner, name)
                m.forward = types.MethodType(lambda self, x, s=stream: F.linear(s["x"], self.weight, self.bias), m)

    return fault


def rope(f, sides="qk"):
    """f(p, x, cos, sin) instead of the rotation."""

    def fault(p):
        def rotated(right, q, k, cos, sin):
            a, b = right(q, k, cos, sin)
            cos, sin = cos[:, None], sin[:, None]
            return (f(p, q, cos, sin) if "q" in sides else a), (f(p, k, cos, sin) if "k" in sides else b)

        p.rotate(rotated)

    return fault


def rope_interleaved(p, x, cos, sin):
    cos, sin = angles(p, x, repeat=lambda f: f.repeat_interleave(2, -1))
    other = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return x * cos + other * sin


def rope_partial(p, x, cos, sin):
    d = p.head_dim // 2
    return torch.cat((turn(x[..., :d], cos[..., :d], sin[..., :d]), x[..., d:]), -1)


def rope_partial_own(p, x, cos, sin):
    d = p.head_dim // 2 // 2 * 2
    f = p.config.rope_parameters["rope_theta"] ** (-torch.arange(0, d, 2).float() / d)
    a = torch.arange(x.shape[2]).float()[:, None] * f[None]
    a = torch.cat((a, a), -1)
    return torch.cat((turn(x[..., :d], a.cos(), a.sin()), x[..., d:]), -1)


def neighbours(x):
    return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)


def rope_interleaved_split(p, x, cos, sin):
    a, b, n = x[..., ::2], x[..., 1::2], p.head_dim // 2
    return torch.cat((a * cos[..., :n] - b * sin[..., :n], b * cos[..., :n] + a * sin[..., :n]), -1)


def rope_partial_first(p, x, cos, sin):
    d = p.head_dim // 2 // 2 * 2
    cos, sin = (torch.cat((a[..., : d // 2],) * 2, -1) for a in (cos, sin))
    return torch.cat((turn(x[..., :d], cos, sin), x[..., d:]), -1)


def rope_partial_pairs(p, x, cos, sin):
    n = p.head_dim // 2
    return torch.where(torch.arange(p.head_dim) % n < n // 2, turn(x, cos, sin), x)


def rope_no_factor(p, x, cos, sin):
    factor = p.model.model.rotary_emb.attention_scaling
    return turn(x, cos / factor, sin / factor)


def by(**kw):
    return lambda p, x, cos, sin: turn(x, *angles(p, x, **kw))


def attention(scale=None, mask=None, kv=None, values=None, layout=None):
    def fault(p):
        kept = {}
        if values:
            right = p.source.apply_rotary_pos_emb

            def spy(q, k, cos, sin, **kw):
                kept["angles"] = cos[:, None], sin[:, None]
                return right(q, k, cos, sin)

            p.source.apply_rotary_pos_emb = spy

        def attend(right, module, q, k, v, m, scaling):
            seq, group = q.shape[2], module.num_key_value_groups
            if values:
                v = values(p, v, *kept["angles"])
            order = [kv(h, k.shape[1]) if kv else h // group for h in range(q.shape[1])]
            k, v = k[:, order], v[:, order]
            scores = q @ k.transpose(2, 3) * (scale(p, module) if scale else scaling)
            t, s = torch.arange(seq)[:, None], torch.arange(seq)[None]
            sees = mask(t, s) if mask else s <= t
            probs = scores.masked_fill(~sees, -math.inf).softmax(-1)
            y = (probs @ v).transpose(1, 2).contiguous()
            return (layout(y) if layout else y), probs

        p.attend(attend)

    return fault


def block(f):
    """f(layer, x, attention) is the block's forward; attention(x) runs self_attn."""

    def fault(p):
        for layer in p.layers:

            def forward(self, hidden_states, **kw):
                kw.pop("past_key_values", None)
                return f(self, hidden_states, lambda h: self.self_attn(hidden_states=h, **kw)[0])

            layer.forward = types.MethodType(forward, layer)

    return fault


def block_standard(attn=lambda x, h, a: x + a, ffn=lambda x, y, h, m: y + m):
    def f(self, x, attention):
        h = self.input_layernorm(x)
        y = attn(x, h, attention(h))
        h = self.post_attention_layernorm(y)
        return ffn(x, y, h, self.mlp(h))

    return block(f)


def mlp(f):
    def fault(p):
        for layer in p.layers:
            layer.mlp.forward = types.MethodType(lambda self, x: self.down_proj(f(self, x)), layer.mlp)

    return fault


class Act(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


def activation(f):
    def fault(p):
        for layer in p.layers:
            layer.mlp.act_fn = Act(f)

    return fault


def after_rope(recorded):
    """The q/k norm after the rotation. recorded: the port's q_norm is recorded where it runs."""

    def fault(p):
        p.drop += [] if recorded else ["q_norm", "k_norm"]
        right = {}
        for layer in p.layers:
            a = layer.self_attn
            right[a.layer_idx] = (a.q_norm, a.k_norm)
            if recorded:
                continue
            a.q_norm, a.k_norm = nn.Identity(), nn.Identity()
        if recorded:

            def forward(self, hidden_states, position_embeddings, attention_mask, past_key_values=None, **kw):
                shape = (*hidden_states.shape[:-1], -1, self.head_dim)
                q, k, v = (getattr(self, n)(hidden_states).view(shape).transpose(1, 2) for n in PROJECTIONS)
                q, k = p.source.apply_rotary_pos_emb(q, k, *position_embeddings)
                q, k = self.q_norm(q.transpose(1, 2)).transpose(1, 2), self.k_norm(k.transpose(1, 2)).transpose(1, 2)
                y, probs = p.source.eager_attention_forward(self, q, k, v, attention_mask, scaling=self.scaling)
                return self.o_proj(y.reshape(*hidden_states.shape[:-1], -1)), probs

            for layer in p.layers:
                layer.self_attn.forward = types.MethodType(forward, layer.self_attn)
            return

        def rotated(rotate, q, k, cos, sin):
            q, k = rotate(q, k, cos, sin)
            a, b = right[p.current]
            return a(q), b(k)

        p.rotate(rotated)

    return fault


def qk_missing(recorded):
    def fault(p):
        p.drop += [] if recorded else ["q_norm", "k_norm"]
        for layer in p.layers:
            for m in (layer.self_attn.q_norm, layer.self_attn.k_norm):
                m.forward = lambda x: x

    return fault


def whole_width(x, w, eps):
    flat = x.flatten(-2)
    return (flat * torch.rsqrt(flat.pow(2).mean(-1, keepdim=True) + eps)).view(x.shape) * w


def head(f):
    def fault(p):
        m = p.model.lm_head
        m.forward = lambda x: f(p, m, x)

    return fault


def final(f):
    def fault(p):
        m = p.model.model.norm
        m.forward = lambda x: f(m, x)

    return fault


def random_like(w):
    return torch.randn(w.shape, generator=torch.Generator().manual_seed(5)) * w.std()


def rounding(dtype):
    """Rounds what every module returns, in a float32 run."""

    def fault(p):
        for m in p.model.modules():
            if not list(m.children()):
                m.register_forward_hook(lambda m, a, y: y.to(dtype).float() if torch.is_tensor(y) else y)

    return fault


SILU = F.silu
QK, IN, POST = ("q_norm", "k_norm"), ("input_layernorm",), ("post_attention_layernorm",)
BOTH = IN + POST
EVERY = BOTH + QK + ("norm",)
gate_up = lambda o: (o.gate_proj, o.up_proj)  # noqa: E731

# name, cause, first op, fault, value, what it needs: 2 or 3 (family), all (layers), yarn, square, ambiguous causes for coarse
FAULTS = [
    ("embed-next-row", "embed-wrong-row", "embed_tokens", embed(lambda p, m, i: F.embedding((i + 1) % m.weight.shape[0], m.weight)), None, "all"),
    ("embed-scaled", "embed-scaled", "embed_tokens", embed(lambda p, m, i: F.embedding(i, m.weight) * p.config.hidden_size**0.5), lambda p: p.config.hidden_size**0.5, "all"),
    ("embed-one-token", "embed-wrong-row", "embed_tokens", embed(lambda p, m, i: F.embedding(torch.where(i == i[0, 3], 11, i), m.weight)), None, "all"),
    ("norm-missing-in", "norm-missing", "input_layernorm", norm(IN, lambda x, w, e: x), None, ""),
    ("norm-missing-post", "norm-missing", "post_attention_layernorm", norm(POST, lambda x, w, e: x), None, ""),
    ("norm-missing-both", "norm-missing", "input_layernorm", norm(BOTH, lambda x, w, e: x), None, ""),
    ("norm-eps", "norm-eps", "input_layernorm", norm(EVERY, lambda x, w, e: rms(x, w, 1e-2)), 1e-2, ""),
    ("norm-eps-small", "norm-eps", "input_layernorm", norm(BOTH + ("norm",), lambda x, w, e: rms(x, w, 1e-4)), 1e-4, ""),
    ("norm-eps-zero", "norm-eps", "input_layernorm", norm(EVERY, lambda x, w, e: rms(x, w, 0)), 0, ""),
    ("norm-eps-qk", "norm-eps", "q_norm", norm(QK, lambda x, w, e: rms(x, w, 1e-3)), 1e-3, "3"),
    ("norm-eps-post", "norm-eps", "post_attention_layernorm", norm(POST, lambda x, w, e: rms(x, w, 5e-2)), 5e-2, ""),
    ("norm-no-weight", "norm-weight-missing", "input_layernorm", norm(EVERY, lambda x, w, e: rms(x, 1, e)), None, ""),
    ("norm-no-weight-post", "norm-weight-missing", "post_attention_layernorm", norm(POST, lambda x, w, e: rms(x, 1, e)), None, ""),
    ("norm-plus-one", "norm-weight-plus-one", "input_layernorm", norm(EVERY, lambda x, w, e: rms(x, 1 + w, e)), None, ""),
    ("norm-plus-one-two", "norm-weight-plus-one", "input_layernorm", norm(BOTH, lambda x, w, e: rms(x, 1 + w, e)), None, ""),
    ("norm-mean", "norm-mean-subtracted", "input_layernorm", norm(EVERY, lambda x, w, e: rms(x - x.mean(-1, keepdim=True), w, e)), None, ""),
    ("norm-mean-in", "norm-mean-subtracted", "input_layernorm", norm(IN, lambda x, w, e: rms(x - x.mean(-1, keepdim=True), w, e)), None, ""),
    ("norm-exchanged", "norm-wrong-weight", "input_layernorm", norm_weight_of(BOTH, POST + IN), None, ""),
    ("norm-post-as-in", "norm-wrong-weight", "post_attention_layernorm", norm_weight_of(POST, IN), None, ""),
    ("bias-missing", "bias-missing", "q_proj", linear(PROJECTIONS, lambda x, w, b, o: F.linear(x, w)), None, "2"),
    ("bias-missing-k", "bias-missing", "k_proj", linear(("k_proj",), lambda x, w, b, o: F.linear(x, w)), None, "2"),
    ("bias-missing-v", "bias-missing", "v_proj", linear(("v_proj",), lambda x, w, b, o: F.linear(x, w)), None, "2"),
    ("transposed-q", "weight-transposed", "q_proj", linear(("q_proj",), lambda x, w, b, o: F.linear(x, w.reshape(w.shape[1], w.shape[0]).T, b)), None, ""),
    ("transposed-o", "weight-transposed", "o_proj", linear(("o_proj",), lambda x, w, b, o: F.linear(x, w.reshape(w.shape[1], w.shape[0]).T, b)), None, ""),
    ("transposed-up", "weight-transposed", "up_proj", linear(("up_proj",), lambda x, w, b, o: F.linear(x, w.reshape(w.shape[1], w.shape[0]).T, b)), None, ""),
    ("wrong-weight-k", "wrong-weight", "k_proj", linear(("k_proj",), lambda x, w, b, o: F.linear(x, o.v_proj.weight, b)), None, ""),
    ("wrong-weight-v", "wrong-weight", "v_proj", linear(("v_proj",), lambda x, w, b, o: o.k_proj(x)), None, ""),
    ("wrong-weight-up", "wrong-weight", "up_proj", linear(("up_proj",), lambda x, w, b, o: F.linear(x, o.gate_proj.weight)), None, ""),
    ("wrong-weight-layer", "wrong-weight", "q_proj", weight_from(lambda i: i + 1), None, "layers"),
    ("not-normed-qkv", "input-not-normed", "q_proj", not_normed(PROJECTIONS), None, "", ("norm-missing",)),
    ("not-normed-v", "input-not-normed", "v_proj", not_normed(("v_proj",)), None, ""),
    ("not-normed-ffn", "input-not-normed", "gate_proj", not_normed(("gate_proj", "up_proj")), None, "", ("norm-missing",)),
    ("qk-missing", "qk-norm-missing", "q_norm", qk_missing(True), None, "3"),
    ("qk-missing-absent", "qk-norm-missing", "q_rope", qk_missing(False), None, "3"),
    ("qk-after-rope", "qk-norm-after-rope", "q_norm", after_rope(True), None, "3"),
    ("qk-after-rope-absent", "qk-norm-after-rope", "q_rope", after_rope(False), None, "3"),
    ("qk-whole-width", "qk-norm-whole-width", "q_norm", norm(QK, whole_width), None, "3"),
    ("qk-swapped", "qk-norm-swapped", "q_norm", norm_weight_of(QK, QK[::-1]), None, "3"),
    ("rope-missing", "rope-missing", "q_rope", rope(lambda p, x, c, s: x), None, ""),
    ("rope-missing-k", "rope-missing", "k_rope", rope(lambda p, x, c, s: x, "k"), None, ""),
    ("rope-interleaved", "rope-interleaved", "q_rope", rope(rope_interleaved), None, ""),
    ("rope-interleaved-mixed", "rope-interleaved", "q_rope", rope(lambda p, x, c, s: x * c + neighbours(x) * s), None, ""),
    ("rope-interleaved-split", "rope-interleaved", "q_rope", rope(rope_interleaved_split), None, ""),
    ("rope-reversed", "rope-reversed", "q_rope", rope(lambda p, x, c, s: turn(x, c, -s)), None, ""),
    ("rope-theta-1e4", "rope-theta", "q_rope", rope(by(theta=1e4)), 1e4, "", ("rope-dim",)),
    ("rope-theta-odd", "rope-theta", "q_rope", rope(by(theta=150000.0)), 150000, "", ("rope-dim",)),
    ("rope-theta-k", "rope-theta", "k_rope", rope(by(theta=1e5), "k"), 1e5, "", ("rope-dim",)),
    ("rope-offset", "rope-position-offset", "q_rope", rope(by(offset=1)), 1, "invisible"),
    ("rope-offset-far", "rope-position-offset", "q_rope", rope(by(offset=37)), 37, "invisible"),
    ("rope-offset-k", "rope-position-offset", "k_rope", rope(by(offset=1), "k"), 1, ""),
    ("rope-partial", "rope-partial", "q_rope", rope(rope_partial), None, ""),
    ("rope-partial-own", "rope-partial", "q_rope", rope(rope_partial_own), None, ""),
    ("rope-partial-first", "rope-partial", "q_rope", rope(rope_partial_first), None, ""),
    ("rope-partial-pairs", "rope-partial", "q_rope", rope(rope_partial_pairs), None, ""),
    ("rope-dim", "rope-dim", "q_rope", rope(lambda p, x, c, s: turn(x, *angles(p, x, width=p.head_dim + 4))), lambda p: p.head_dim + 4, "", ("rope-theta",)),
    ("rope-dim-double", "rope-dim", "q_rope", rope(lambda p, x, c, s: turn(x, *angles(p, x, width=2 * p.head_dim))), lambda p: 2 * p.head_dim, "", ("rope-theta",)),
    ("rope-scaling", "rope-scaling", "q_rope", rope(by(scale=4.0)), 4, ""),
    ("rope-scaling-odd", "rope-scaling", "q_rope", rope(by(scale=2.5)), 2.5, ""),
    ("rope-no-yarn", "rope-scaling", "q_rope", rope(by()), None, "yarn"),
    ("rope-no-factor", "rope-scaling", "q_rope", rope(rope_no_factor), None, "yarn"),
    ("rope-on-values", "rope-on-values", "context", attention(values=lambda p, v, c, s: turn(v, c, s)), None, ""),
    ("rope-twice", "rope-twice", "q_rope", rope(lambda p, x, c, s: turn(turn(x, c, s), c, s)), None, ""),
    ("scale-missing", "scale-missing", "probs", attention(scale=lambda p, m: 1.0), None, ""),
    ("scale-heads", "scale-wrong", "probs", attention(scale=lambda p, m: p.config.num_attention_heads**-0.5), lambda p: p.config.num_attention_heads**-0.5, ""),
    ("scale-odd", "scale-wrong", "probs", attention(scale=lambda p, m: 0.77 * m.scaling), lambda p: 0.77 * p.head_dim**-0.5, ""),
    ("mask-missing", "mask-missing", "probs", attention(mask=lambda t, s: s >= 0), None, ""),
    ("mask-off-by-one", "mask-off-by-one", "probs", attention(mask=lambda t, s: s <= t + 1), None, ""),
    ("window-3", "sliding-window", "probs", attention(mask=lambda t, s: (s <= t) & (t - s < 3)), 3, ""),
    ("window-8", "sliding-window", "probs", attention(mask=lambda t, s: (s <= t) & (t - s < 8)), 8, ""),
    ("gqa-order", "gqa-order", "probs", attention(kv=lambda h, n: h % n), None, ""),
    ("context-layout", "context-layout", "context", attention(layout=lambda y: y.transpose(2, 3).contiguous()), None, ""),
    ("context-untransposed", "context-layout", "context", attention(layout=lambda y: y.transpose(1, 2).contiguous()), None, ""),
    ("residual-missing-1", "residual-missing", "attn_residual", block_standard(attn=lambda x, h, a: a), None, ""),
    ("residual-missing-2", "residual-missing", "output", block_standard(ffn=lambda x, y, h, m: m), None, ""),
    ("residual-source-1", "residual-wrong-source", "attn_residual", block_standard(attn=lambda x, h, a: h + a), None, ""),
    ("residual-source-2", "residual-wrong-source", "output", block_standard(ffn=lambda x, y, h, m: h + m), None, ""),
    ("residual-source-input", "residual-wrong-source", "output", block_standard(ffn=lambda x, y, h, m: x + m), None, ""),
    ("gate-up", "gate-up-swapped", "act_fn", mlp(lambda m, x: m.act_fn(m.up_proj(x)) * m.gate_proj(x)), None, ""),
    ("gate-up-loaded", "gate-up-swapped", "gate_proj", linear(("gate_proj", "up_proj"), lambda x, w, b, o: F.linear(x, gate_up(o)[1 if w is o.gate_proj.weight else 0].weight)), None, ""),
    ("gelu", "activation", "act_fn", activation(F.gelu), None, ""),
    ("gelu-tanh", "activation", "act_fn", activation(lambda x: F.gelu(x, approximate="tanh")), None, ""),
    ("relu", "activation", "act_fn", activation(F.relu), None, ""),
    ("sigmoid", "activation", "act_fn", activation(torch.sigmoid), None, ""),
    ("quick-gelu", "activation", "act_fn", activation(lambda x: x * torch.sigmoid(1.702 * x)), None, ""),
    ("tanh", "activation", "act_fn", activation(torch.tanh), None, ""),
    ("identity", "activation", "act_fn", activation(lambda x: x), None, ""),
    ("up-missing", "up-missing", "gated", mlp(lambda m, x: (m.up_proj(x), m.act_fn(m.gate_proj(x)))[1]), None, ""),
    ("final-norm-missing", "final-norm-missing", "norm", final(lambda m, x: x), None, "all"),
    ("final-norm-eps", "norm-eps", "norm", final(lambda m, x: rms(x, m.weight, 0.3)), 0.3, "all"),
    ("final-norm-plus-one", "norm-weight-plus-one", "norm", final(lambda m, x: rms(x, 1 + m.weight, m.variance_epsilon)), None, "all"),
    ("post-norm-state", "hidden-state-after-final-norm", "last", lambda p: None, None, "trap"),
    ("logits-scaled", "logits-scaled", "lm_head", head(lambda p, m, x: F.linear(x, m.weight) * 0.125), 0.125, "all"),
    ("head-not-tied", "head-not-tied", "lm_head", head(lambda p, m, x: F.linear(x, random_like(m.weight) if p.config.tie_word_embeddings else p.model.model.embed_tokens.weight)), None, "all"),
    ("unknown-cube", "unknown", "act_fn", activation(lambda x: x**3 / 9), None, ""),
]  # fmt: skip


def rename(op, layer, layers):
    """The tensor's name for an op of a layer."""
    if op in ("embed_tokens", "norm"):
        return "model." + op
    if op == "lm_head":
        return op
    if op == "last":
        return f"model.layers.{layers - 1}"
    if op == "output":
        return f"model.layers.{layer}"
    part = ""
    if op in ("q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "q_rope", "k_rope", "probs", "context", "o_proj"):
        part = "self_attn."
    if op in ("gate_proj", "up_proj", "act_fn", "gated", "down_proj"):
        part = "mlp."
    return f"model.layers.{layer}.{part}{op}"


def run(model, ids, drop=(), dtype=None):
    """Every intermediate, and hidden_states."""
    with torch.no_grad(), recording(model) as seen:
        out = model(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    result = {"input_ids": torch.tensor(ids)}
    result.update({k: v for k, v in seen.items() if not any(k.endswith(d) for d in drop)})
    for i, h in enumerate(out.hidden_states):
        result[f"hidden_states.{i}"] = h[0].float().clone()
    return result


def coarse(t):
    return {k: v for k, v in t.items() if k == "input_ids" or k.startswith("hidden_states")}


def visible(a, b):
    return not torch.equal(a, b) and ((a - b).abs().max() / a.abs().max()).item() > 2e-6


# What the first broken step reads: enough to judge it alone.
READS = {
    "input_layernorm": ("embed_tokens",), "q_proj": ("input_layernorm", "embed_tokens"), "k_proj": ("input_layernorm",),
    "q_norm": ("q_proj",), "q_rope": ("q_proj", "q_norm"), "k_rope": ("k_proj", "k_norm"), "probs": ("q_rope", "k_rope"), "context": ("probs", "v_proj"),
    "attn_residual": ("o_proj", "input_layernorm", "embed_tokens"), "act_fn": ("gate_proj", "up_proj"), "gated": ("act_fn", "up_proj"),
    "lm_head": ("model.norm",), "norm": ("model.layers.1",),
}  # fmt: skip

# The recordings that are committed, and that go test judges.
SAMPLE = {
    "qwen3-tiny": "norm-eps qk-after-rope rope-interleaved rope-theta-1e4 scale-odd post-norm-state",
    "qwen2-tiny": "bias-missing rope-dim window-3 residual-source-1 gelu unknown-cube",
}  # fmt: skip

# What each step reads: a tensor whose inputs are as they should be, and which is not, is one that
# the mistake itself has changed.
INPUTS = {
    "input_layernorm": ("stream",), "q_proj": ("input_layernorm",), "k_proj": ("input_layernorm",), "v_proj": ("input_layernorm",),
    "q_norm": ("q_proj",), "k_norm": ("k_proj",), "q_rope": ("q_proj", "q_norm"), "k_rope": ("k_proj", "k_norm"), "probs": ("q_rope", "k_rope"),
    "context": ("probs", "v_proj"), "o_proj": ("context",), "attn_residual": ("stream", "o_proj"), "post_attention_layernorm": ("attn_residual",),
    "gate_proj": ("post_attention_layernorm",), "up_proj": ("post_attention_layernorm",), "act_fn": ("gate_proj",), "gated": ("act_fn", "up_proj"),
    "down_proj": ("gated",), "output": ("attn_residual", "down_proj"),
}  # fmt: skip

# The mistakes that are recorded on qwen2-tiny too: where biases, square weights or a head of its own make a difference.
ON_BOTH = ("bias", "transposed", "wrong-weight", "head-not-tied")
# Those whose first block output is recorded too, to be found from that alone.
BLOCKS = """norm-missing-post norm-eps-post norm-mean-in norm-exchanged bias-missing-v transposed-o wrong-weight-up wrong-weight-layer
    qk-whole-width qk-after-rope-absent rope-offset-k rope-partial-own rope-dim-double rope-scaling-odd window-3 gqa-order context-untransposed
    residual-source-input gate-up-loaded unknown-cube""".split()


def mistakes(folder, path):
    """Writes one file with every mistake, made in all layers: the tensors that the mistake itself changes.
    What they were made of is in the model's trace.safetensors, or in the file itself (right:NAME)."""
    right = load(path)
    layers, family, yarn = right.config.num_hidden_layers, right.config.model_type[-1], "yarn" in path.name
    good = read(path / "trace.safetensors") if not yarn else run(right, [5, 9, 7, 10, 2, 5, 8, 4])
    ids = good["input_ids"].tolist()
    cases, tensors = [], {}
    if yarn:
        tensors = {"input_ids": good["input_ids"]}
        tensors.update({"right:" + k: good[k] for k in good if k.endswith("0.self_attn.q_norm") or k.endswith("0.self_attn.k_norm")})
    for name, cause, op, fault, value, needs, *also in FAULTS:
        if needs in ("2", "3") and needs != family or needs == "trap" or (needs == "yarn") != yarn:
            continue
        if family == "2" and needs != "2" and not name.startswith(ON_BOTH):
            continue
        model = load(path)
        p = Port(model, list(range(layers)))
        with restored(p.source):
            fault(p)
            t = run(model, ids, p.drop)
        kept = [k for k in t if not k.startswith("hidden_states") and k != "input_ids" and own(k, t, good, layers)]
        if not kept:  # a window that is wider than the text
            continue
        if name in BLOCKS:
            kept.append("hidden_states.1")
        tensors.update({f"{name}:{k}": t[k] for k in kept})
        cases.append({
            "name": name, "tensors": kept, "value": value(p) if callable(value) else value,
            "cause": [cause, *(also[0] if also and "rope" in cause else ())], "blockCause": [cause, *(also[0] if also else ())],
        })  # fmt: skip
    write(folder / (path.name + ".safetensors"), tensors, {**versions(), "cases": json.dumps(cases)})


def own(name, t, good, layers):
    """Says whether the tensor is not as it should be, although all that it was made of is."""
    if not visible(good[name], t[name]):
        return False
    inputs = {"model.norm": [f"model.layers.{layers - 1}"], "lm_head": ["model.norm"]}.get(name, [])
    if name.startswith("model.layers."):
        layer, _, op = name[len("model.layers.") :].partition(".")
        stream = f"model.layers.{int(layer) - 1}" if layer > "0" else "model.embed_tokens"
        inputs = [stream if i == "stream" else rename(i, layer, layers) for i in INPUTS[op.split(".")[-1] or "output"]]
    return all(i not in t or torch.equal(t[i], good[i]) for i in inputs)


def read(path):
    """The tensors of a file that trace.py wrote."""
    with safetensors.safe_open(path, "pt") as f:
        return {k: f.get_tensor(k) for k in f.keys()}


def wanted(case, kind, first):
    """Says which tensors of a case the sample keeps: None for none of them."""
    model, name, where = case.split(".")
    names = SAMPLE.get(model, "").split()
    if name not in names or where != "all":
        return None
    if kind == "coarse":
        return ("hidden_states", "model.layers", "embed_tokens") if names.index(name) % 2 == 0 or name == "post-norm-state" else None
    op = first.split(".")[-1]
    return (first, *READS.get(op, ())) if op in READS else None


def make(folder, models, sample=False):
    """Writes every recording, or the sample, and returns what diff should say of each."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = []

    def add(name, path, tensors, **expect):
        if sample:
            case, kind = name.rsplit(".", 1)
            keep = wanted(case, kind, expect["first"]) if case.count(".") == 2 and "good" not in case and "rounding" not in case else None
            if keep is None:
                return
            layer0 = lambda k: "layers." not in k or "layers.0." in k or kind == "coarse" or k == expect["first"] or k == "model.layers.1"  # noqa: E731
            tensors = {k: v for k, v in tensors.items() if k == "input_ids" or layer0(k) and any(n in k for n in keep)}
            tensors = {k: v for k, v in tensors.items() if kind == "coarse" or not k.startswith("hidden_states")}
            path = path.name
        write(folder / (name + ".safetensors"), tensors, versions())
        cases.append({"file": name + ".safetensors", "model": str(path), **expect})

    for path in models:
        right = load(path)
        layers, family = right.config.num_hidden_layers, right.config.model_type[-1]
        vocab = right.config.vocab_size
        g = torch.Generator().manual_seed(3)
        ids = torch.randint(0, vocab - 1, (8 if sample else 14,), generator=g).tolist()
        ids[2:4] = [7, 23]  # rows that are nearly zero: eps shows
        good = run(right, ids)
        for name, cause, op, fault, value, needs, *also in FAULTS:
            if needs in "23" and needs and needs != family or needs == "yarn":
                continue
            where = {"all": list(range(layers))}
            if needs not in ("all", "trap", "layers"):
                where["one"] = [layers // 2]
            for kind, chosen in where.items():
                model = load(path)
                p = Port(model, chosen)
                with restored(p.source):
                    fault(p)
                    t = run(model, ids, p.drop)
                if needs == "trap":
                    t[f"model.layers.{layers - 1}"] = t["model.norm"].clone()
                first = rename(op, p.first, layers)
                case = f"{path.name}.{name}.{kind}"
                v = value(p) if callable(value) else value
                verdict = "mislabelled" if needs == "trap" else "differs"
                if not visible(good[first] if first in good else t[first] * 0, t[first]):
                    print("not visible:", case)
                else:
                    add(case + ".full", path, t, kind="full", verdict=verdict, first=first, cause=[cause, *(also[0] if also and "rope" in cause else ())], value=v)
                c = coarse(t)
                if needs == "trap":  # the states under the names of the layers
                    c = {"input_ids": t["input_ids"], "model.embed_tokens": t["model.embed_tokens"]}
                    c.update({f"model.layers.{i}": t[f"hidden_states.{i + 1}"] for i in range(layers)})
                    add(case + ".coarse", path, c, kind="coarse", verdict=verdict, first=first, cause=[cause], value=v)
                    continue
                seen = [k for k in c if k != "input_ids" and visible(good[k], c[k])]
                if needs == "invisible":
                    add(case + ".coarse", path, c, kind="good", verdict="match", first=None, cause=[None])
                elif seen and op != "lm_head":
                    add(case + ".coarse", path, c, kind="coarse", verdict=verdict, first=seen[0], cause=[cause, *(also[0] if also else ())], value=v)
        if not sample:
            good_ones(path, right, vocab, add)
    return cases


def good_ones(path, right, vocab, add, lengths=(1, 2, 5, 16, 64, 120), seed=9):
    """Recordings of transformers itself: float32, which must match, and bf16, f16 and rounded ones."""
    g = torch.Generator().manual_seed(seed)
    for n in lengths:
        ids = torch.randint(0, vocab - 1, (n,), generator=g).tolist()
        t = run(right, ids)
        add(f"{path.name}.good.{n}.full", path, t, kind="good", verdict="match", first=None, cause=[None])
        add(f"{path.name}.good.{n}.coarse", path, coarse(t), kind="good", verdict="match", first=None, cause=[None])
    for n in lengths[2:4]:
        ids = torch.randint(0, vocab - 1, (n,), generator=g).tolist()
        for dtype, cause in ((torch.bfloat16, "bf16-rounding"), (torch.float16, "f16-rounding")):
            low = load(path, dtype)
            t = run(low, ids)
            add(f"{path.name}.{cause}.{n}.full", path, t, kind="rounding", verdict="precision", cause=[cause])
            add(f"{path.name}.{cause}.{n}.coarse", path, coarse(t), kind="rounding", verdict="precision", cause=[cause])
            model = load(path)
            rounding(dtype)(Port(model, [0]))
            t = run(model, ids)
            add(f"{path.name}.{cause}.hooks.{n}.full", path, t, kind="rounding", verdict="precision", cause=[cause])


def middle(folder):
    """Two models with more layers than the tiny ones, of other widths."""
    configs = {
        "qwen2-middle": qwen2(vocab_size=151, hidden_size=64, num_attention_heads=4, intermediate_size=120, num_hidden_layers=5, max_position_embeddings=256, rms_norm_eps=1e-6),
        "qwen3-middle": qwen3(vocab_size=151, hidden_size=72, num_attention_heads=6, num_key_value_heads=3, head_dim=16, intermediate_size=100, num_hidden_layers=4, max_position_embeddings=256),
    }  # fmt: skip
    for i, (name, c) in enumerate(configs.items()):
        if not (folder / name).exists():
            cls = {"qwen2": transformers.Qwen2ForCausalLM, "qwen3": transformers.Qwen3ForCausalLM}[c.model_type]
            with torch.no_grad():
                randomise(cls(c), 50 + i).save_pretrained(folder / name)
    return [folder / n for n in configs]


def close(a, b):
    return a is not None and abs(a - b) <= 0.01 * abs(b)


def score(qwen, folder, cases, only):
    """Runs qwen diff on every case and prints how often it was right."""
    total = {}
    cases = [c for c in cases if only in c["file"]]

    def diff(c):
        return subprocess.run([qwen, "diff", "-json", "-model", c["model"], str(folder / c["file"])], capture_output=True, text=True)

    for c, r in zip(cases, concurrent.futures.ThreadPoolExecutor(2).map(diff, cases)):
        if r.returncode not in (0, 3):
            print("ERROR", c["file"], r.stderr.strip())
            d = {"verdict": "error", "first": None, "cause": None, "value": None, "detail": ""}
        else:
            d = json.loads(r.stdout)
        right = {"verdict": d["verdict"] == c["verdict"], "cause": d["cause"] in c["cause"]}
        if "first" in c:
            right["first"] = d["first"] == c["first"]
        if c.get("value") is not None and d["cause"] == c["cause"][0]:
            right["value"] = close(d["value"], c["value"])
        for k, ok in right.items():
            n = total.setdefault((c["kind"], k), [0, 0])
            n[0] += ok
            n[1] += 1
        if not all(right.values()):
            print("WRONG", c["file"], {k: c.get(k) for k in right}, "->", {k: d[k] for k in ("verdict", "first", "cause", "value")}, d["detail"][:200])
    for (kind, what), (n, of) in sorted(total.items()):
        print(f"{kind:9} {what:8} {n:4} of {of:4}  {100 * n / of:6.2f} %")


def main():
    p = argparse.ArgumentParser(description="Make recordings of broken ports and score qwen diff on them.")
    p.add_argument("--dir", required=True, type=pathlib.Path, help="where the recordings go")
    p.add_argument("--qwen", help="the command to score")
    p.add_argument("--real", type=pathlib.Path, help="a real checkpoint, for good recordings")
    p.add_argument("--only", default="", help="score only files whose name holds this")
    p.add_argument("--keep", action="store_true", help="do not make the recordings again")
    p.add_argument("--sample", action="store_true", help="make only the recordings that are committed, smaller")
    a = p.parse_args()
    torch.set_num_threads(1)
    manifest = a.dir / "cases.json"
    if a.sample:
        manifest.parent.mkdir(parents=True, exist_ok=True)
        cases = make(a.dir, [HERE / "qwen2-tiny", HERE / "qwen3-tiny"], sample=True)
        manifest.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
        for name in ("qwen2-tiny", "qwen3-tiny", "variants/qwen3-yarn"):
            mistakes(a.dir, HERE / name)
        return
    if not (a.keep and manifest.exists()):
        a.dir.mkdir(parents=True, exist_ok=True)
        cases = make(a.dir, [HERE / "qwen2-tiny", HERE / "qwen3-tiny", *middle(a.dir)])
        if a.real:
            real = load(a.real)

            def add(name, path, tensors, **expect):
                write(a.dir / (name + ".safetensors"), tensors, versions())
                cases.append({"file": name + ".safetensors", "model": str(path), **expect})

            good_ones(a.real, real, real.config.vocab_size, add, lengths=(1, 6, 24, 40, 200))
        manifest.write_text(json.dumps(cases, indent=1))
        print(len(cases), "recordings in", a.dir)
    if a.qwen:
        score(a.qwen, a.dir, json.loads(manifest.read_text()), a.only)


if __name__ == "__main__":
    main()

"""Records every intermediate of a checkpoint, as transformers computes it.

    python testdata/trace.py --model DIR --ids 1,2,3 -o reference.safetensors
    python testdata/trace.py --model DIR --prompt "What is RoPE?" -o reference.safetensors

The file is what `qwen diff` reads, and what `qwen trace` writes for the same model and ids.
transformers does the computing. Module outputs come from forward hooks; what no module
returns (the rotated q and k, the probabilities) comes from wrapping the two functions that
make them: apply_rotary_pos_emb and eager_attention_forward of the model's own source file.

Names are transformers' module names, plus a few that no module has:

    model.layers.N.self_attn.q_rope, .k_rope   after the rotation      [seq, heads, headDim]
    model.layers.N.self_attn.probs             after the softmax       [heads, seq, seq]
    model.layers.N.self_attn.context           what o_proj reads       [seq, heads*headDim]
    model.layers.N.attn_residual               x + o_proj              [seq, hidden]
    model.layers.N.mlp.gated                   what down_proj reads    [seq, intermediate]
    hidden_states.0 … hidden_states.L          output_hidden_states=True

Beware of hidden_states.L: it is taken AFTER the final norm. It is not the last layer's
output; model.layers.(L-1) is.
"""

import argparse
import contextlib
import json
import re
import struct
import sys

import torch
import transformers

transformers.logging.disable_progress_bar()

# The modules whose output is kept. Left out: self_attn and mlp, which repeat o_proj and
# down_proj, and the rotary embedding, whose cos and sin are no function of the activations.
MODULES = re.compile(
    r"model\.embed_tokens|model\.norm|lm_head|model\.layers\.\d+("
    r"|\.input_layernorm|\.post_attention_layernorm"
    r"|\.self_attn\.(q_proj|k_proj|v_proj|o_proj|q_norm|k_norm)"
    r"|\.mlp\.(gate_proj|up_proj|act_fn|down_proj))"
)

# The modules whose input is kept, and the name it gets.
INPUTS = {
    "self_attn.o_proj": "self_attn.context",
    "post_attention_layernorm": "attn_residual",
    "mlp.down_proj": "mlp.gated",
}

DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}


def write(path, tensors, metadata=None):
    """Writes a safetensors file. The same tensors always give the same bytes.

    (The safetensors library keeps metadata in a hash map, so its key order differs from run
    to run; nothing else about the format is special here.)
    """
    # The widest type first keeps every tensor aligned; otherwise the order is the caller's.
    order = sorted(tensors, key=lambda name: -tensors[name].element_size())
    header, data = {}, []
    if metadata:
        header["__metadata__"] = {k: str(v) for k, v in sorted(metadata.items())}
    begin = 0
    for name in order:
        t = tensors[name].detach().contiguous()
        raw = t.reshape(-1).view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": DTYPES[t.dtype],
            "shape": list(t.shape),
            "data_offsets": [begin, begin + len(raw)],
        }
        begin += len(raw)
        data.append(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(data))


def versions():
    """The metadata that every recording carries."""
    return {
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
    }


@contextlib.contextmanager
def recording(model):
    """Yields a dict that every forward pass inside the with statement fills: name -> tensor."""
    seen, handles = {}, []
    layer = [None]  # the name of the attention that is running

    def keep(name, t):
        t = t.detach()
        if t.dim() > 2 and t.shape[0] == 1:
            t = t[0]  # the batch
        seen[name] = t.to(torch.float32).clone()

    def entered(name):
        def hook(module, args, kwargs):
            layer[0] = name

        return hook

    def output(name):
        def hook(module, args, out):
            keep(name, out[0] if isinstance(out, tuple) else out)

        return hook

    def inputs(name):
        def hook(module, args):
            keep(name, args[0])

        return hook

    for name, module in model.named_modules():
        if MODULES.fullmatch(name):
            handles.append(module.register_forward_hook(output(name)))
        if name.endswith(".self_attn"):
            handles.append(module.register_forward_pre_hook(entered(name), with_kwargs=True))
        for suffix, to in INPUTS.items():
            if name.endswith("." + suffix):
                handles.append(module.register_forward_pre_hook(inputs(name[: -len(suffix)] + to)))

    source = sys.modules[type(model).__module__]  # modeling_qwen2 or modeling_qwen3
    rotate, attend = source.apply_rotary_pos_emb, source.eager_attention_forward

    def rotate_and_keep(q, k, cos, sin, **kwargs):
        q, k = rotate(q, k, cos, sin, **kwargs)  # [1, heads, seq, headDim]
        keep(layer[0] + ".q_rope", q.transpose(1, 2))
        keep(layer[0] + ".k_rope", k.transpose(1, 2))
        return q, k

    def attend_and_keep(*args, **kwargs):
        context, probs = attend(*args, **kwargs)
        keep(layer[0] + ".probs", probs)
        return context, probs

    source.apply_rotary_pos_emb, source.eager_attention_forward = rotate_and_keep, attend_and_keep
    try:
        yield seen
    finally:
        source.apply_rotary_pos_emb, source.eager_attention_forward = rotate, attend
        for handle in handles:
            handle.remove()


def trace(model, ids, hidden_states_only=False):
    """Runs the model on ids and returns name -> tensor, in the order of the data flow."""
    model.eval()
    x = torch.tensor([ids], dtype=torch.int64)
    with torch.no_grad(), recording(model) as seen:
        out = model(x, output_hidden_states=True, use_cache=False)

    states = [h[0].to(torch.float32) for h in out.hidden_states]
    # The hooks and transformers' own list must tell the same story.
    layers = model.config.num_hidden_layers
    named = ["model.embed_tokens"] + [f"model.layers.{i}" for i in range(layers - 1)] + ["model.norm"]
    assert len(states) == len(named)
    for state, name in zip(states, named):
        assert torch.equal(state, seen[name]), name
    assert torch.equal(out.logits[0].to(torch.float32), seen["lm_head"])
    for i in range(layers):
        assert f"model.layers.{i}.self_attn.q_rope" in seen and f"model.layers.{i}.self_attn.probs" in seen

    result = {"input_ids": x[0]}
    if not hidden_states_only:
        result.update(seen)
    for i, state in enumerate(states):
        result[f"hidden_states.{i}"] = state.clone()
    return result


def load(path, dtype=torch.float32):
    """Loads a checkpoint, widened or narrowed to dtype, with the attention that is plain torch."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, attn_implementation="eager", local_files_only=True
    ).eval()


def prompt_ids(path, prompt, raw):
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    if not raw:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
    return tokenizer(prompt, add_special_tokens=False)["input_ids"]


def main():
    p = argparse.ArgumentParser(description="Record every intermediate of a checkpoint with transformers.")
    p.add_argument("--model", required=True, metavar="DIR", help="folder with config.json and the weights")
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--ids", metavar="1,2,3", help="token ids")
    what.add_argument("--prompt", metavar="TEXT", help="text, put through the chat template")
    p.add_argument("--raw", action="store_true", help="no chat template")
    p.add_argument("-o", required=True, metavar="FILE", dest="out", help="the safetensors file to write")
    p.add_argument("--hidden-states-only", action="store_true", help="only what output_hidden_states=True returns")
    p.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    a = p.parse_args()

    ids = [int(i) for i in a.ids.split(",")] if a.ids else prompt_ids(a.model, a.prompt, a.raw)
    model = load(a.model, getattr(torch, a.dtype))
    tensors = trace(model, ids, a.hidden_states_only)
    write(a.out, tensors, {**versions(), "dtype": a.dtype, "model_type": model.config.model_type})
    print(f"{a.out}: {len(ids)} tokens, {len(tensors)} tensors")


if __name__ == "__main__":
    main()

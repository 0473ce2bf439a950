#!/usr/bin/env python3
"""Runs this package and others on the same weights, in turn, and prints medians and ratios.

    bench/compare.py CHECKPOINT [--kernels avx2 avx512] [--llama LLAMA_BENCH MODEL.gguf ...]... [--torch PYTHON] [--machine MACHINE]

CHECKPOINT is a folder that qwen loads. --llama, which may be given for several builds, names a llama-bench and the
same checkpoint converted; --torch an interpreter that has transformers, which runs the checkpoint in float32; --machine
what machine.c was compiled to: it runs at the end of each round, because what a shared machine reads a second changes.
Nothing else should be running: the machines that we see are noisy, so each round runs every program once, and the
median of the rounds counts. bench/README.md says how to get the parts.
"""
import argparse, json, os, re, statistics, subprocess, tempfile

COLUMNS = ['prefill 512', 'prefill 2000', 'decode', 'decode behind 4096']  # tokens a second
RUNS = [(512, 64, 0), (2000, 0, 0), (0, 16, 4096)]  # tokens of the prompt, to decode, in the cache

TORCH = '''
import json, sys, time, torch
from transformers import AutoModelForCausalLM, DynamicCache
path, threads, prompt, tokens, depth = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
def feed(n, cache):
    with torch.inference_mode():
        ids = torch.arange(n)[None] * 7919 % model.config.vocab_size
        model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
def rate(n, step, cache):
    start = time.perf_counter()
    for _ in range(n // step): feed(step, cache)
    return n / (time.perf_counter() - start)
cache = DynamicCache()
feed(depth + 1, cache)
if prompt: feed(prompt, DynamicCache())  # the first run allocates
print(json.dumps([prompt and rate(prompt, prompt, DynamicCache()), tokens and rate(tokens, 1, cache)]))
'''

def run(command, **environment):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=os.environ | environment)
    if done.returncode:
        raise SystemExit(f'{command}: {done.stderr.strip()[-500:]}')
    return done.stdout

# Each returns tokens a second of prefill and of decode, 0 where there was none.

def ours(program, checkpoint, kernel, threads, prompt, tokens, depth):
    r = json.loads(run([program, 'bench', '-model', checkpoint, '-threads', threads, '-prompt', prompt, '-n', tokens, '-depth', depth, '-repeat', 1, '-json'],
                       GODEBUG={'avx2': 'cpu.avx512f=off', 'generic': 'cpu.avx2=off'}.get(kernel, '')))
    if kernel and r['kernel'] != kernel:
        raise SystemExit(f'found kernel {r["kernel"]}, expected {kernel}')
    return r['prefill_tok_s'], r['decode_tok_s']

def llama(program, model, threads, prompt, tokens, depth):
    rows = json.loads(run([program, '-m', model, '-t', threads, '-p', prompt, '-n', tokens, '-d', depth, '-r', 1, '-o', 'json']))
    rates = {r['n_gen'] > 0: r['avg_ts'] for r in rows}
    return rates.get(False, 0), rates.get(True, 0)

def torch(python, checkpoint, threads, prompt, tokens, depth):
    return json.loads(run([python, '-c', TORCH, checkpoint, threads, prompt, tokens, depth]))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('checkpoint')
    p.add_argument('--kernels', nargs='+', default=[''], help='of ours, the best first: avx512 avx2 generic')
    p.add_argument('--llama', nargs='+', action='append', default=[], metavar='PATH', help='llama-bench, then models')
    p.add_argument('--torch', metavar='PYTHON')
    p.add_argument('--machine', metavar='PATH')
    p.add_argument('--threads', default=2)
    p.add_argument('--rounds', type=int, default=5)
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        qwen = folder + '/qwen'
        run(['go', 'build', '-o', qwen, './cmd/qwen'])
        engines = {f'qwen {k}'.strip(): lambda *n, k=k: ours(qwen, a.checkpoint, k, a.threads, *n) for k in a.kernels}
        for program, *models in a.llama:
            for model in models:
                engines[f'llama.cpp {os.path.basename(model)}, {program}'] = lambda *n, m=model, p=program: llama(p, m, a.threads, *n)
        if a.torch:
            engines['PyTorch float32'] = lambda *n: torch(a.torch, a.checkpoint, a.threads, *n)
        rates = {name: [[] for _ in COLUMNS] for name in engines}
        limits = []
        for round in range(a.rounds):
            for name, engine in engines.items():
                (first, decode), (second, _), (_, behind) = (engine(*r) for r in RUNS)
                for column, rate in zip(rates[name], (first, second, decode, behind)):
                    column.append(rate)
            if a.machine:
                limits.append(re.findall(r'[\d.]+(?= G)', run([a.machine]).splitlines()[-1]))
            print(f'round {round + 1} of {a.rounds}:', *(f'{name} {[c[-1] for c in columns]}' for name, columns in rates.items()), *limits[-1:], sep='\n    ', flush=True)
    medians = {name: [statistics.median(c) for c in columns] for name, columns in rates.items()}
    best = next(iter(engines))
    print(f'\ntokens/s, median of {a.rounds} (lowest to highest), {a.threads} threads; × is {best} over the row\n')
    print('| | ' + ' | '.join(COLUMNS) + ' |')
    print('|' + '---|' * (len(COLUMNS) + 1))
    for name, columns in rates.items():
        cells = [f'{m:.1f} ({min(c):.1f} to {max(c):.1f}) {ours / m:.2f} ×' for ours, m, c in zip(medians[best], medians[name], columns)]
        print('|', name, '|', ' | '.join(cells), '|')
    for what, column in zip(['GB/s of reads', 'GFLOP/s'], zip(*limits)):
        column = [float(c) for c in column]
        print(f'machine: {statistics.median(column):.1f} ({min(column):.1f} to {max(column):.1f}) {what}')

main()

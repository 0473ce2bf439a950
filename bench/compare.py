#!/usr/bin/env python3
"""Runs this package and llama.cpp on the same weights, in turn, and prints medians and ratios.

    bench/compare.py CHECKPOINT --llama LLAMA_BENCH MODEL.gguf [MODEL.gguf ...]

CHECKPOINT is a folder that qwen loads; LLAMA_BENCH is the program of that name, each MODEL.gguf the same checkpoint
converted. Nothing else should be running: the machines that we see are noisy, so each round runs every program once,
and the median of the rounds counts. bench/README.md says how to get the parts.
"""
import argparse, json, statistics, subprocess, tempfile

def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f'{" ".join(command)}: {done.stderr.strip()[-500:]}')
    return done.stdout

def llama(program, model, threads, prompt, tokens, depth):
    """Tokens a second of prefill and of decode."""
    rows = json.loads(run([program, '-m', model, '-t', threads, '-p', prompt, '-n', tokens, '-d', depth, '-r', '1', '-o', 'json']))
    return ({r['n_gen'] > 0: r['avg_ts'] for r in rows}.get(False), {r['n_gen'] > 0: r['avg_ts'] for r in rows}.get(True))

def ours(program, checkpoint, threads, prompt, tokens, depth):
    r = json.loads(run([program, 'bench', '-model', checkpoint, '-threads', threads, '-prompt', prompt, '-n', tokens, '-depth', depth, '-repeat', '1', '-json']))
    return r['prefill_tok_s'] if prompt != '0' else None, r['decode_tok_s']

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('checkpoint')
    p.add_argument('--llama', nargs='+', default=[], metavar='PATH', help='llama-bench, then models')
    p.add_argument('--threads', default='2')
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--depth', default='4096', help='tokens in the cache for the third column')
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        qwen = folder + '/qwen'
        run(['go', 'build', '-o', qwen, './cmd/qwen'])
        engines = {'qwen': lambda *n: ours(qwen, a.checkpoint, a.threads, *n)}
        for model in a.llama[1:]:
            engines['llama.cpp ' + model.rsplit('/', 1)[-1]] = lambda *n, model=model: llama(a.llama[0], model, a.threads, *n)
        results = {name: ([], [], []) for name in engines}
        for round in range(a.rounds):
            for name, engine in engines.items():
                prefill, decode = engine('512', '64', '0')
                results[name][0].append(prefill)
                results[name][1].append(decode)
                results[name][2].append(engine('0', '16', a.depth)[1])
            print(f'round {round + 1} of {a.rounds} done', flush=True)
    medians = {name: [statistics.median(c) for c in columns] for name, columns in results.items()}
    print(f'\ntokens/s, median of {a.rounds} (lowest to highest), {a.threads} threads\n')
    print(f'| | prefill 512 | decode | decode behind {a.depth} |\n|---|---|---|---|')
    for name, columns in results.items():
        cells = [f'{m:.1f} ({min(c):.1f} to {max(c):.1f})' + ('' if name == 'qwen' else f', we {medians["qwen"][i] / m:.2f} ×') for i, (m, c) in enumerate(zip(medians[name], columns))]
        print(f'| {name} | ' + ' | '.join(cells) + ' |')

main()

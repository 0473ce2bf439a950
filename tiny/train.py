"""Trains the embedded model from the texts in tiny/texts.

    pip install -r tiny/requirements.txt
    python tiny/train.py            # texts -> tiny/model, tiny/testdata/answers.json, figures in tiny/README.md
    python tiny/train.py --check    # loads tiny/model with transformers and measures it again

What happens, in this order:

 1. read tiny/texts and keep some phrasings apart, which training never sees;
 2. learn a byte-level BPE vocabulary and write it as Qwen's tokenizer.json;
 3. train transformers' own Qwen3ForCausalLM from scratch on conversations made of the texts,
    each question varied a little every time (case, punctuation, prefixes, synonyms, typing mistakes);
 4. round the weights to bf16 and write an ordinary Hugging Face folder;
 5. load that folder with transformers, in float32, and measure it: greedy, exact text.

Seeded; CPU only. A run that was interrupted goes on from its last save (--fresh starts anew).
"""

import argparse
import ctypes
import difflib
import json
import os
import random
import re
import sys
import tempfile
import time

# glibc gives large buffers back to the system after every operation and asks for them again; keeping
# them makes a training step about a third faster. It changes no result. Other systems have no mallopt.
try:
    _libc = ctypes.CDLL("libc.so.6")
    _libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
    _libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
except OSError:
    pass
# A thread that waits for the other sleeps: on a machine that has other work, too, spinning costs more than it saves.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = os.path.join(HERE, "texts")
MODEL = os.path.join(HERE, "model")
ANSWERS = os.path.join(HERE, "testdata", "answers.json")
README = os.path.join(HERE, "README.md")
README_QUESTION = "What does RMSNorm do?"

SEED = 20250607
VOCAB = 2560  # rows of the embedding: 256 bytes, the merges, the added tokens

# All widths differ, as in Qwen3-0.6B: heads*headDim is 240, kvHeads*headDim 80, hidden 160.
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": None,  # set below: <|endoftext|>, as Qwen publishes it
    "eos_token_id": None,  # set below: <|im_end|>
    "head_dim": 40,
    "hidden_act": "silu",
    "hidden_size": 160,
    "initializer_range": 0.02,
    "intermediate_size": 448,
    "max_position_embeddings": 2048,
    "max_window_layers": 4,
    "model_type": "qwen3",
    "num_attention_heads": 6,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": VOCAB,
}

# Training: POOLS pools of WHOLE whole answers and SHORT beginnings of answers, in batches of about BATCH tokens.
# Learning the answers by heart is quick; which answer a question wants is what takes long. That is decided
# in an answer's first few tokens, so most questions come with no more than these.
POOLS = 90
WHOLE = 280
SHORT = 850
BATCH = 1280
PEAK_LR = 2e-3
WARMUP = 2  # pools
DROPOUT = 0.1  # at the start, falling to 0
GUIDE = 0.3  # weight of the second head's loss

# ---------------------------------------------------------------------------------------------------------
# 1. Texts


class Block:
    """One question in several phrasings, with its answer."""

    def __init__(self, name, questions, answer):
        self.name, self.questions, self.answer = name, questions, answer
        self.trained, self.unseen = questions, []


def plain(question):
    """A question without case, punctuation and extra spaces: two phrasings that agree here are the same."""
    return " ".join(re.sub(r"[^a-z0-9]+", " ", question.lower()).split()) or question


def read_texts():
    blocks, seen, answers = [], {}, set()
    for name in sorted(os.listdir(TEXTS)):
        if not name.endswith(".txt"):
            continue
        questions = []
        with open(os.path.join(TEXTS, name), encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                where, line = f"texts/{name}:{number}", line.strip()
                if not line or line.startswith("#"):
                    continue
                if not line.startswith("= "):
                    key = plain(line)
                    if key in seen:
                        sys.exit(f"{where}: asked before, at {seen[key]}: {line}")
                    seen[key] = where
                    questions.append(line)
                    continue
                answer = line[2:]
                if len(questions) < 6:
                    sys.exit(f"{where}: {len(questions)} phrasings, want at least 6")
                if answer in answers:
                    sys.exit(f"{where}: another question has this answer")
                answers.add(answer)
                blocks.append(Block(name, questions, answer))
                questions = []
        if questions:
            sys.exit(f"texts/{name}: the last question has no answer")
    # Keep one phrasing apart, two where there are eighteen or more. The first one is always trained.
    rng = random.Random(SEED)
    for b in blocks:
        apart = rng.sample(b.questions[1:], 2 if len(b.questions) >= 18 else 1)
        b.unseen = apart
        b.trained = [q for q in b.questions if q not in apart]
    return blocks


# ---------------------------------------------------------------------------------------------------------
# 2. Tokenizer

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Qwen3's added tokens in Qwen3's order; those up to video_pad are special.
ADDED = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>
<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>
<tool_response> </tool_response> <think> </think>""".split()
SPECIAL = ADDED[: ADDED.index("<|video_pad|>") + 1]


def make_tokenizer(blocks):
    """Learns the merges from the trained texts and writes tokenizer.json and tokenizer_config.json."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    t.decoder = decoders.ByteLevel()
    corpus = ["user\nassistant\nsystem\n\n"] * 10
    for b in blocks:
        corpus.append(b.answer)
        corpus += b.trained + [q.lower() for q in b.trained]
    for _, options in SYNONYMS:
        corpus += options + [" " + o for o in options]
    corpus += PREFIXES + SUFFIXES + SYSTEMS
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - len(ADDED),
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    t.train_from_iterator(corpus, trainer)
    model = json.loads(t.to_str())["model"]
    vocab, merges = model["vocab"], model["merges"]
    if len(vocab) != VOCAB - len(ADDED):
        sys.exit(f"tokenizer: {len(vocab)} tokens, want {VOCAB - len(ADDED)}: too little text")
    entries = [
        {
            "id": len(vocab) + i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": token in SPECIAL,
        }
        for i, token in enumerate(ADDED)
    ]
    doc = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": entries,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
                byte_level,
            ],
        },
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(sorted(vocab.items(), key=lambda kv: kv[1])),
            "merges": merges,
        },
    }
    with open(os.path.join(HERE, "qwen3.jinja"), encoding="utf-8") as f:
        template = f.read()
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(e["id"]): {k: v for k, v in e.items() if k != "id"} for e in entries},
        "additional_special_tokens": SPECIAL[1:],
        "bos_token": None,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": CONFIG["max_position_embeddings"],
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    os.makedirs(MODEL, exist_ok=True)
    write_json("tokenizer.json", doc, indent=1)
    write_json("tokenizer_config.json", settings, indent=2)


def write_json(name, value, indent):
    with open(os.path.join(MODEL, name), "w", encoding="utf-8") as f:
        json.dump(value, f, indent=indent, ensure_ascii=False)
        f.write("\n")


# ---------------------------------------------------------------------------------------------------------
# 3. Variations of a question

PREFIXES = """please, |hey, |hi, |hello, |ok, |so, |and |now |well, |tell me, |please tell me: |question: |quick question: |one more question: |
can you tell me: |could you tell me: |do you know: |I wonder, |I would like to know: |I'd like to know, |just asking, |also, |but |um, |
can you explain: |please explain: |sorry, |thanks, |great, |I have a question: |another question: |next question: |good, |hmm, """.replace("\n", "").split("|")
SUFFIXES = " please| thanks|, please| in short| briefly| in one sentence| for a beginner| exactly| really| then| again| here| in this package| in Qwen| in a few words| to me| in this repo| in this project| in simple words| now| actually".split("|")
SYSTEMS = """You are a helpful assistant.|You are Qwen, created by Alibaba Cloud. You are a helpful assistant.|Answer briefly.|
You are a friendly teacher.|Be concise.|You answer questions about a Go package.|Answer in English.|You are an expert in transformers.|
Reply with one short paragraph.|You are a polite and careful assistant.|Speak like a pirate.|You help programmers.|Be precise and kind.|
Do not make things up.|You are a bot.|Use plain words.|Today is Monday.|The user is a beginner.|You are a Go programmer.|Explain like I'm five.""".replace("\n", "").split("|")

# Swaps that keep the meaning; each is tried with some probability. \b keeps them to whole words.
SYNONYMS = [
    (r"^What is ", ["What's ", "whats ", "What exactly is ", "Define ", "Explain what is ", "So what is ", "What do you call "]),
    (r"^What are ", ["What're ", "What exactly are ", "Explain ", "Which are "]),
    (r"^What does ", ["What exactly does ", "Tell me what does ", "Do you know what does ", "what dose "]),
    (r"^How does ", ["How exactly does ", "In what way does ", "Tell me how does ", "how dose "]),
    (r"^How do I ", ["How can I ", "How to ", "How would I ", "How should I ", "What must I do to ", "What is the way to ", "How could one ", "How do you ", "How does one ", "I want to "]),
    (r"^How can I ", ["How do I ", "How to ", "How could I ", "What do I do to ", "Is there a way to "]),
    (r"^Why does ", ["For what reason does ", "How come ", "Why exactly does "]),
    (r"^Why is ", ["For what reason is ", "How come ", "Why exactly is ", "What is the reason that "]),
    (r"^Why ", ["Why exactly ", "For which reason ", "Tell me why "]),
    (r"^Which ", ["What ", "Tell me which ", "which of the "]),
    (r"^In which file is ", ["What file is ", "Which file is ", "In what file is ", "Where's ", "Where in the source is ", "Which go file has "]),
    (r"^Which file (holds|has|contains) ", ["What file has ", "Which source file contains ", "Which Go file has ", "In which file lives ", "Name the file with "]),
    (r"^Where is ", ["Where's ", "Where can I see ", "Where do I find ", "Where in the source is ", "Where exactly is ", "Show me where is "]),
    (r"^Where do I find ", ["Where can I find ", "Where is ", "Where can I see ", "Where to find ", "Show me "]),
    (r"^Explain ", ["Describe ", "Please explain ", "Can you explain ", "Tell me about ", "Talk about ", "Give an explanation of ", "Could you describe ", "I don't understand ", "Help me understand ", "Teach me "]),
    (r"^Tell me about ", ["Explain ", "Describe ", "What do you know about ", "I want to know about ", "Say something about ", "Talk to me about ", "Give me an overview of ", "Let's talk about "]),
    (r"^Can I ", ["May I ", "Could I ", "Is it possible to ", "Am I able to ", "Can one ", "Can you ", "Can we "]),
    (r"^Is there ", ["Do you have ", "Does it have ", "Is there any "]),
    (r"^Does it ", ["Does this package ", "Does the package ", "Does this library ", "Will it ", "Can it ", "Does qwen "]),
    (r"^Can it ", ["Can this package ", "Could it ", "Is it able to ", "Can qwen ", "Does it "]),
    (r"^Is it ", ["Is this ", "Is this package ", "Would it be ", "Is the package "]),
    (r"\bthe code\b", ["the source", "the source code", "the repository", "this repo", "the Go code"]),
    (r"\bimplemented\b", ["defined", "written", "located", "done", "coded"]),
    (r"\bpurpose\b", ["point", "aim", "goal", "use", "job", "function", "role"]),
    (r"\bfor\?$", ["good for?", "used for?", "needed for?", "there for?"]),
    (r"\bformula\b", ["equation", "math", "maths", "definition"]),
    (r"\bcomputed\b", ["calculated", "worked out", "evaluated"]),
    (r"\bfeed-forward network\b", ["feedforward network", "FFN", "feed forward net", "MLP"]),
    (r"\bFFN\b", ["feed-forward network", "MLP", "feedforward"]),
    (r"\bKV cache\b", ["kv-cache", "key value cache", "key-value cache", "KVCache"]),
    (r"\bGQA\b", ["grouped-query attention", "grouped query attention"]),
    (r"\bBPE\b", ["byte pair encoding", "byte-pair encoding"]),
    (r"\bRoPE\b", ["rotary embeddings", "rotary position embedding", "rope"]),
    (r"\bRMSNorm\b", ["RMS norm", "rms normalisation", "RmsNorm", "root mean square norm"]),
    (r"\bSiLU\b", ["silu", "swish"]),
    (r"\bSwiGLU\b", ["swiglu", "Swi-GLU"]),
    (r"\bbf16\b", ["bfloat16", "BF16"]),
    (r"\bf16\b", ["float16", "FP16", "half precision"]),
    (r"\bsafetensors\b", ["safe tensors", "Safetensors", ".safetensors"]),
    (r"\btokenizer\b", ["tokeniser", "Tokenizer"]),
    (r"\bnormalis", ["normaliz"]),
    (r"\blicence\b", ["license"]),
    (r"\bcheckpoint\b", ["model folder", "checkpoint folder", "model"]),
    (r"\bmodel\b", ["network", "checkpoint", "LLM"]),
    (r"\bcommand\b", ["subcommand", "cmd"]),
    (r"\bflag\b", ["option", "switch", "argument"]),
    (r"\bhow large\b", ["how big", "what size"]),
    (r"\blarge\b", ["big"]),
    (r"\bmean\b", ["stand for", "signify", "tell me"]),
    (r"\bneed\b", ["require", "have to have"]),
    (r"\buse\b", ["employ", "make use of"]),
    (r"\bstored\b", ["kept", "saved", "held"]),
    (r"\bhappens\b", ["will happen", "occurs", "is going on"]),
    (r"\bdifference between\b", ["distinction between", "differences between"]),
    (r"\bsupported\b", ["possible", "available", "implemented", "there", "handled"]),
    (r"\bis not\b", ["isn't"]),
    (r"\bdo not\b", ["don't"]),
    (r"\bcannot\b", ["can't", "can not"]),
    (r"\bdoes not\b", ["doesn't"]),
    (r"\bdiffer\b", ["vary", "deviate"]),
    (r"\bprogram\b", ["code", "software", "app"]),
    (r"\bfast\b", ["quick", "speedy"]),
    (r"\bshow\b", ["print", "display", "give"]),
    (r"\bfolder\b", ["directory", "dir"]),
    (r"\banswer\b", ["reply", "response"]),
    (r"\bworks?\b", ["function"]),
]
SYNONYMS = [(re.compile(p, re.I), options) for p, options in SYNONYMS]

# A general question about one thing can be asked in any of these ways, as can one for the file of a thing.
GENERAL = re.compile(r"^(?:what does (?P<a>[\w<>|/.\-]+(?: [\w\-]+)?) do\?|explain (?P<b>[^.,:]{2,40})\.|tell me about (?P<c>[^.,:]{2,40})\.)$", re.I)
GENERALS = """What does {} do?|Explain {}.|Tell me about {}.|Describe {}.|What is {}?|What is the purpose of {}?|How does {} work?|{}?|{}|
What is {} for?|Define {}.|Can you explain {}?|What do you know about {}?|I want to understand {}.|Why do we need {}?|{} explained|
What is meant by {}?|Give me a short explanation of {}.|Summarise {}.|What should I know about {}?|What's {} about?|
How would you explain {}?|I don't understand {}.|What is the idea of {}?|What role does {} play?|Teach me about {}.|What is {} good for?|
What is the point of {}?|Why is there {}?|What are the basics of {}?|Say something about {}.|Introduce {}.|What is the use of {}?""".replace("\n", "").split("|")
WHERE = re.compile(r"^(?:where is (?P<a>.{2,40}) in the code\?|in which file is (?P<b>.{2,40})\?|where do I find (?P<c>.{2,40})\?|which file (?:has|holds|contains) (?P<d>.{2,40})\?)$", re.I)
WHERES = """Where is {}?|Where is {} in the code?|In which file is {}?|Which file has {}?|Which file contains {}?|Where can I find {}?|Where do I find {}?|
Where is {} implemented?|Where is {} defined?|What file is {} in?|Which source file has {}?|Show me the file with {}.|Where in the source is {}?|
{}, which file?|Where can I read {}?|file of {}?|Which Go file is {} in?|In what file do I find {}?|Where does {} live?|What is the file name of {}?|
Which file should I open for {}?|I am looking for {} in the code.|Point me to {}.|Where's the code of {}?|Location of {}?""".replace("\n", "").split("|")

KEYS = {"q": "wa", "w": "qe", "e": "wr", "r": "et", "t": "ry", "a": "qs", "s": "ad", "d": "sf", "i": "uo", "o": "ip", "n": "bm", "m": "n", "l": "k", "h": "gj"}


def typing_mistake(text, rng):
    i = rng.randrange(1, max(2, len(text)))
    c = text[i : i + 1]
    if not c.isalpha():
        return text
    kind = rng.randrange(4)
    if kind == 0:
        return text[:i] + text[i + 1 :]  # left out
    if kind == 1:
        return text[:i] + c + text[i:]  # twice
    if kind == 2:
        return text[: i - 1] + c + text[i - 1] + text[i + 1 :]  # exchanged with the one before
    return text[:i] + rng.choice(KEYS.get(c.lower(), c)) + text[i + 1 :]  # the key next to it


STOP_WORDS = {"the", "a", "an", "of", "is", "does", "do", "to", "in", "it", "i", "me", "and", "there", "this", "be", "are", "with", "for", "my", "at"}


def vary(question, rng):
    """The question in slightly other words, never changing what is asked."""
    q = question
    m = GENERAL.match(q)
    if m and rng.random() < 0.35:
        q = rng.choice(GENERALS).format(next(g for g in m.groups() if g))
    else:
        m = WHERE.match(q)
        if m and rng.random() < 0.4:
            q = rng.choice(WHERES).format(next(g for g in m.groups() if g))
    opened = False  # one swap at the beginning at most
    for pattern, options in SYNONYMS:
        start = pattern.pattern.startswith("^")
        if rng.random() < (0.35 if start else 0.2) and not (start and opened) and pattern.search(q):
            q = pattern.sub(lambda _: rng.choice(options), q, count=1)
            opened = opened or start
    if rng.random() < 0.12:
        words = q.split(" ")
        drop = [i for i, w in enumerate(words) if w.lower() in STOP_WORDS]
        if len(words) > 3 and drop:
            for i in sorted(rng.sample(drop, rng.randint(1, len(drop))), reverse=True):
                del words[i]
            q = " ".join(words)
    if rng.random() < 0.07:
        words = q.split(" ")
        if len(words) > 4:
            i = rng.randrange(len(words) - 1)
            words[i], words[i + 1] = words[i + 1], words[i]
            q = " ".join(words)
    if rng.random() < 0.15:
        q = rng.choice(PREFIXES) + (q[:1].lower() + q[1:] if rng.random() < 0.6 and q[1:2].islower() else q)
    if rng.random() < 0.08 and len(q) > 8:
        end = q[-1] if q[-1] in "?.!" else ""
        q = q.rstrip("?.!") + rng.choice(SUFFIXES) + end
    if rng.random() < 0.25:
        q = q.lower()
    elif rng.random() < 0.03:
        q = q.upper()
    r = rng.random()
    if r < 0.22:
        q = q.rstrip("?.!")
    elif r < 0.30:
        q = q.rstrip("?.!") + rng.choice(["?", "??", ".", "!", " ?", "?!", "..."])
    if rng.random() < 0.12:
        for _ in range(1 if rng.random() < 0.8 else 2):
            q = typing_mistake(q, rng)
    return q.strip() or question


# ---------------------------------------------------------------------------------------------------------
# Conversations

USER, ASSISTANT, NO_THINKING = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<think>\n\n</think>\n\n"


class Maker:
    """Makes training conversations as token ids; labels are -100 except on the answers and their <|im_end|>."""

    def __init__(self, blocks, tokenizer):
        self.blocks, self.tokenizer = blocks, tokenizer
        # A variation must not happen to be a phrasing that was kept apart, or one of another question.
        self.owner = {plain(q): (b, q in b.unseen) for b in blocks for q in b.questions}
        # An answer that spells <|im_end|> must not contain it: answers, and most questions, are encoded as the
        # content of messages is in Go, where nothing but the template makes special tokens. So here the special
        # tokens have names that no text has.
        document = json.loads(tokenizer.to_str())
        for token in document["added_tokens"]:
            if token["special"]:
                token["content"] = f"\0{token['id']}\0"
        self.content = Tokenizer.from_str(json.dumps(document))
        self.weights = [len(b.questions) ** 0.5 for b in blocks]
        self.number = {b.answer: i for i, b in enumerate(blocks)}
        answers = {b.answer: self.answer(b) for b in blocks}
        self.decided = {}  # how many tokens tell this answer from all others, and two more
        for answer, ids in answers.items():
            shared = max(len(os.path.commonprefix([ids, other])) for a, other in answers.items() if a != answer)
            self.decided[answer] = shared + 3

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def answer(self, block):
        return self.content.encode(block.answer, add_special_tokens=False).ids + self.ids("<|im_end|>")

    def question(self, block, rng):
        q = rng.choice(block.trained)
        if rng.random() < 0.15:
            return q
        v = vary(q, rng)
        owner, unseen = self.owner.get(plain(v), (block, False))
        return q if unseen or owner is not block else v

    def conversation(self, turns, rng, whole=True):
        """Returns the ids, the labels, and for the last token of each prompt the number of the answer."""
        x, y, z = [], [], []

        def add(ids, trained):
            x.extend(ids)
            y.extend(ids if trained else [-100] * len(ids))
            z.extend([-100] * len(ids))

        if rng.random() < 0.12:
            add(self.ids(f"<|im_start|>system\n{rng.choice(SYSTEMS)}<|im_end|>\n"), False)
        picked = rng.choices(self.blocks, self.weights, k=turns)
        for i, b in enumerate(picked):
            thinking_off = i == turns - 1 and rng.random() < 0.2
            question, end = self.question(b, rng), ASSISTANT + (NO_THINKING if thinking_off else "")
            if rng.random() < 0.6:
                add(self.ids(USER) + self.content.encode(question, add_special_tokens=False).ids + self.ids(end), False)
            else:
                add(self.ids(USER + question + end), False)
            z[-1] = self.number[b.answer]
            answer = self.answer(b)
            add(answer if whole else answer[: self.decided[b.answer]], True)
            if i < turns - 1:
                add(self.ids("\n"), False)
        return x, y, z

    def pool(self, number):
        """One pool's batches; conversations of similar length share a batch."""
        rng = random.Random(f"{SEED} pool {number}")
        conversations, left = [], WHOLE
        while left > 0:
            turns = min(left, rng.choices([1, 2, 3, 5, 9, 16], [56, 20, 12, 6, 3, 1])[0])
            conversations.append(self.conversation(turns, rng))
            left -= turns
        conversations += [self.conversation(1, rng, whole=False) for _ in range(SHORT)]
        conversations.sort(key=lambda c: len(c[0]))
        batches, batch = [], []
        for c in conversations:
            if batch and (len(batch) + 1) * len(c[0]) > BATCH:
                batches.append(batch)
                batch = []
            batch.append(c)
        batches.append(batch)
        rng.shuffle(batches)
        return batches


def tensors(batch):
    """The batch as rectangles: padding stands behind, where a causal model cannot see it."""
    width = max(len(c[0]) for c in batch)
    out = [torch.full((len(batch), width), fill) for fill in (0, -100, -100)]
    for i, c in enumerate(batch):
        for whole, part in zip(out, c):
            whole[i, : len(part)] = torch.tensor(part)
    return out


# ---------------------------------------------------------------------------------------------------------
# Training


class Guide(torch.nn.Module):
    """A second head, for training only: names the answer's number from the middle layer, at the prompt's end.

    It tells the lower layers directly what the first tokens of an answer tell them only little by little.
    """

    def __init__(self, model, answers):
        super().__init__()
        self.head = torch.nn.Linear(CONFIG["hidden_size"], answers)
        self.seen = None
        model.model.layers[(CONFIG["num_hidden_layers"] - 1) // 2].register_forward_hook(self.look)

    def look(self, _module, _inputs, output):
        self.seen = output[0] if isinstance(output, tuple) else output

    def loss(self, z):
        at = z != -100
        h = torch.nn.functional.rms_norm(self.seen[at], self.seen.shape[-1:])
        return torch.nn.functional.cross_entropy(self.head(torch.nn.functional.dropout(h, DROPOUT)), z[at])


def add_dropout(model, p):
    """Dropout on the embedding and on what each sublayer adds: Qwen has none, so hooks put it in for training.

    p is a list of one number, the share to drop, which may change while training goes on.
    """

    def hook(_module, _inputs, output):
        first = output[0] if isinstance(output, tuple) else output
        dropped = torch.nn.functional.dropout(first, p[0])
        return (dropped, *output[1:]) if isinstance(output, tuple) else dropped

    handles = [model.model.embed_tokens.register_forward_hook(hook)]
    for layer in model.model.layers:
        handles += [layer.self_attn.register_forward_hook(hook), layer.mlp.register_forward_hook(hook)]
    return handles


def train(blocks, args):
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True, warn_only=True)
    tokenizer = Tokenizer.from_file(os.path.join(MODEL, "tokenizer.json"))
    config = dict(CONFIG)
    config["bos_token_id"] = tokenizer.token_to_id("<|endoftext|>")
    config["eos_token_id"] = tokenizer.token_to_id("<|im_end|>")
    write_json("config.json", config, indent=2)
    write_json(
        "generation_config.json",
        {
            "bos_token_id": config["bos_token_id"],
            "do_sample": False,
            "eos_token_id": [config["eos_token_id"], config["bos_token_id"]],
            "pad_token_id": config["bos_token_id"],
            "transformers_version": config["transformers_version"],
        },
        indent=2,
    )
    model = Qwen3ForCausalLM(Qwen3Config.from_pretrained(MODEL)).float()
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {2 * parameters / 1e6:.2f} MB in bf16", flush=True)
    guide = Guide(model, len(blocks))
    everything = [*model.parameters(), *guide.parameters()]
    matrices = [p for p in everything if p.ndim == 2]
    vectors = [p for p in everything if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=PEAK_LR,
        betas=(0.9, 0.98),
        fused=True,
    )
    maker = Maker(blocks, tokenizer)
    saved = args.saved
    first, seconds = 0, 0.0
    if os.path.exists(saved) and not args.fresh:
        state = torch.load(saved)
        model.load_state_dict(state["model"])
        guide.load_state_dict(state["guide"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds = state["pool"], state["seconds"]
        print(f"going on from pool {first} ({saved})", flush=True)
    drop = [DROPOUT]
    handles = add_dropout(model, drop)
    model.train()
    pools = args.pools
    last_save = start = time.time()
    seconds_before = seconds
    for number in range(first, pools):
        torch.manual_seed(SEED + number)  # so that a resumed run drops the same activations
        batches = maker.pool(number)
        total = guided = count = tokens = 0
        for i, batch in enumerate(batches):
            done = number + i / len(batches)
            if done < WARMUP:
                rate = done / WARMUP
            else:  # cosine from 1 to 0.01
                rate = 0.01 + 0.99 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * (done - WARMUP) / (pools - WARMUP))).item())
            drop[0] = DROPOUT * (1 - done / pools)
            for group in optimizer.param_groups:
                group["lr"] = PEAK_LR * rate
            x, y, z = tensors(batch)
            h = model.model(input_ids=x, use_cache=False).last_hidden_state
            wanted = y[:, 1:] != -100  # the head runs on the answers' positions only
            loss = torch.nn.functional.cross_entropy(model.lm_head(h[:, :-1][wanted]), y[:, 1:][wanted])
            named = guide.loss(z)
            (loss + GUIDE * named).backward()
            torch.nn.utils.clip_grad_norm_(everything, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            n = int(wanted.sum())
            guided += named.item() / len(batches)
            total, count, tokens = total + loss.item() * n, count + n, tokens + x.numel()
        seconds = seconds_before + time.time() - start
        if number % 5 == 4 or number == pools - 1:
            print(f"pool {number + 1}/{pools}  loss {total / count:.4f}  guide {guided:.4f}  {seconds:.0f} s  {tokens / max(1e-9, seconds / (number + 1)):.0f} tokens/s", flush=True)
        if time.time() - last_save > 60 or number == pools - 1:
            state = {"model": model.state_dict(), "guide": guide.state_dict(), "optimizer": optimizer.state_dict(), "pool": number + 1, "seconds": seconds}
            torch.save(state, saved + ".part")
            os.replace(saved + ".part", saved)
            last_save = time.time()
        if args.probe and number % args.probe == args.probe - 1:
            for h_ in handles:
                h_.remove()
            model.eval()
            report(blocks, measure(model, Qwen3Tokenizer(tokenizer), blocks))
            model.train()
            handles = add_dropout(model, drop)
    for h_ in handles:
        h_.remove()
    model.eval()
    state = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    path = os.path.join(MODEL, "model.safetensors")
    save_file(state, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)
    return seconds


# ---------------------------------------------------------------------------------------------------------
# Measuring


class Qwen3Tokenizer:
    """Prompts for a tokenizer that has not been written as a whole folder yet."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def prompt(self, question):
        return self.tokenizer.encode(USER + question + ASSISTANT, add_special_tokens=False).ids

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=False)


class HubTokenizer(Qwen3Tokenizer):
    """Prompts by transformers' own chat template."""

    def prompt(self, question):
        return chat_ids(self.tokenizer, [{"role": "user", "content": question}])


def chat_ids(tokenizer, messages, **switches):
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **switches)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def greedy(model, prompts, stop, limit=128):
    """Greedy answers for prompts of one length, in one batch, without the stop id."""
    x = torch.tensor(prompts)
    cache, out, ended = None, [[] for _ in prompts], [False] * len(prompts)
    for _ in range(limit):
        step = model(input_ids=x, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, x = step.past_key_values, step.logits[:, -1].argmax(-1, keepdim=True)
        for i, token in enumerate(x[:, 0].tolist()):
            ended[i] = ended[i] or token in stop
            if not ended[i]:
                out[i].append(token)
        if all(ended):
            break
    return out


def measure(model, tokenizer, blocks):
    """Asks every phrasing; returns (block, question, unseen, text) for each."""
    stop = {VOCAB - len(ADDED) + ADDED.index(t) for t in ("<|endoftext|>", "<|im_end|>")}
    asked = [(b, q, q in b.unseen, tokenizer.prompt(q)) for b in blocks for q in b.questions]
    by_length = {}
    for a in asked:
        by_length.setdefault(len(a[3]), []).append(a)
    results = []
    for _, group in sorted(by_length.items()):
        for i in range(0, len(group), 128):
            part = group[i : i + 128]
            for a, ids in zip(part, greedy(model, [p[3] for p in part], stop)):
                results.append((a[0], a[1], a[2], tokenizer.decode(ids)))
    return results


def which(text, answers):
    """The answer that came: the exact one, or else the nearest if it is near."""
    if text in answers:
        return text
    near = difflib.get_close_matches(text, answers, n=1, cutoff=0.8)
    return near[0] if near else None


def report(blocks, results, verbose=False):
    answers = [b.answer for b in blocks]
    known = set(answers)
    trained = [(b, q, t) for b, q, unseen, t in results if not unseen]
    unseen = [(b, q, t) for b, q, unseen, t in results if unseen]
    trained_right = sum(t == b.answer for b, _, t in trained)
    unseen_right = sum((t if t in known else which(t, answers)) == b.answer for b, _, t in unseen)
    unseen_exact = sum(t == b.answer for b, _, t in unseen)
    if verbose:
        for b, q, t in [r for r in trained + unseen if r[2] != r[0].answer]:
            print(f"  {b.name}: {q!r}\n    want {b.answer[:90]!r}\n    got  {t[:90]!r}")
    figures = {
        "questions": len(blocks),
        "trained": len(trained),
        "trained_right": trained_right,
        "unseen": len(unseen),
        "unseen_right": unseen_right,
        "unseen_exact": unseen_exact,
    }
    print(
        f"{len(blocks)} questions\n"
        f"trained phrasings right (exact text): {trained_right} of {len(trained)} = {100 * trained_right / len(trained):.1f} %\n"
        f"never-seen phrasings right (which answer came): {unseen_right} of {len(unseen)} = {100 * unseen_right / len(unseen):.1f} %"
        f" ({unseen_exact} word for word)",
        flush=True,
    )
    return figures


@torch.no_grad()
def margin(model, prompt, ids):
    """The smallest distance between the best and the second logit along the answer."""
    logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
    top = logits.topk(2, dim=-1).values
    return (top[:, 0] - top[:, 1]).min().item()


def record_answers(model, tokenizer, blocks):
    """A sample of prompts with transformers' own greedy answers, for the Go test.

    Content that spells an added token is left out: there, Go and transformers differ on purpose. So is a
    prompt where the two best logits are nearer than 0.05 somewhere: there, the order of a sum may
    decide, and both answers are right.
    """
    rng = random.Random(SEED + 1)
    trained = [q for b in blocks for q in b.trained if q != README_QUESTION]
    unseen = [q for b in blocks for q in b.unseen]
    cases = [("readme", [README_QUESTION], None, None), ("readme, thinking off", [README_QUESTION], None, False)]
    cases += [("trained", [q], None, None) for q in rng.sample(trained, 14)]
    cases += [("never seen", [q], None, None) for q in rng.sample(unseen, 12)]
    cases += [("thinking off", [q], None, False) for q in rng.sample(trained, 4)]
    cases += [("thinking on", [q], None, True) for q in rng.sample(trained, 1)]
    cases += [("system", [q], s, None) for q, s in zip(rng.sample(trained, 3), SYSTEMS)]
    cases += [("two turns", rng.sample(trained, 2), None, None) for _ in range(3)]
    cases += [("three turns, thinking off", rng.sample(trained, 3), None, False)]
    cases += [("four turns, system", rng.sample(trained, 4), SYSTEMS[0], None)]
    cases += [("not plain ASCII", [q], None, None) for q in ("Was ist RoPE? \u00dcber \u7f13\u5b58 \U0001f600", "cafe\u0301")]
    records = []
    for kind, questions, system, thinking in cases:
        switches = {} if thinking is None else {"enable_thinking": thinking}
        messages = [{"role": "system", "content": system}] if system else []
        for i, q in enumerate(questions):
            messages.append({"role": "user", "content": q})
            # Only the last turn decides on thinking: the template strips it from earlier ones.
            prompt = chat_ids(tokenizer, messages, **(switches if i == len(questions) - 1 else {}))
            out = model.generate(torch.tensor([prompt]), max_new_tokens=128, do_sample=False)[0, len(prompt) :].tolist()
            text = tokenizer.decode(out, skip_special_tokens=True)
            if i < len(questions) - 1:
                messages.append({"role": "assistant", "content": text})
        spelled = any(token in m["content"] for m in messages for token in ADDED)
        if spelled or margin(model, prompt, out) < 0.05:
            continue
        records.append(
            {"kind": kind, "messages": messages, "enable_thinking": thinking, "prompt_ids": prompt, "ids": out, "text": text}
        )
    return records


def check(blocks, verbose=False):
    """Loads tiny/model as anybody would and measures it in float32."""
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    raw = Tokenizer.from_file(os.path.join(MODEL, "tokenizer.json"))
    for b in blocks:
        for text in b.questions + [b.answer]:
            if tokenizer(text, add_special_tokens=False)["input_ids"] != raw.encode(text, add_special_tokens=False).ids:
                sys.exit(f"transformers and tokenizers differ on {text!r}")
    figures = report(blocks, measure(model, HubTokenizer(tokenizer), blocks), verbose)
    files = {f: os.path.getsize(os.path.join(MODEL, f)) for f in sorted(os.listdir(MODEL))}
    figures["bytes"] = files["model.safetensors"]
    figures["folder"] = sum(files.values())
    figures["parameters"] = sum(p.numel() for p in model.parameters())
    print(f"model.safetensors {figures['bytes']:,} bytes, the whole folder {figures['folder']:,}", flush=True)
    return figures, record_answers(model, tokenizer, blocks)


def write_records(records):
    os.makedirs(os.path.dirname(ANSWERS), exist_ok=True)
    with open(ANSWERS, "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(r, ensure_ascii=True) for r in records) + "\n]\n")


def figures_text(f, seconds=None):
    lines = [
        f"| questions | {f['questions']} |",
        f"| trained phrasings right, exact text | {f['trained_right']} of {f['trained']} ({100 * f['trained_right'] / f['trained']:.1f} %) |",
        f"| never-seen phrasings right, which answer came | {f['unseen_right']} of {f['unseen']} ({100 * f['unseen_right'] / f['unseen']:.1f} %) |",
        f"| parameters | {f['parameters']:,} |",
        f"| model.safetensors, bytes | {f['bytes']:,} |",
    ]
    if seconds is not None:
        lines.append(f"| training, seconds on 2 cores, busy or not | {seconds:.0f} |")
    return "\n".join(lines)


BEGIN, END = "<!-- figures: written by train.py -->", "<!-- end of figures -->"


def write_figures(text):
    with open(README, encoding="utf-8") as f:
        head, rest = f.read().split(BEGIN)
    tail = rest.split(END)[1]
    with open(README, "w", encoding="utf-8") as f:
        f.write(f"{head}{BEGIN}\n| | |\n|---|---|\n{text}\n{END}{tail}")


def main():
    parser = argparse.ArgumentParser(description="Trains or checks the embedded model.")
    parser.add_argument("--check", action="store_true", help="only load tiny/model with transformers and compare")
    parser.add_argument("--fresh", action="store_true", help="do not go on from an interrupted run")
    parser.add_argument("--verbose", action="store_true", help="print every wrong answer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pools", type=int, default=POOLS, help="length of the training, for trying things out")
    parser.add_argument("--probe", type=int, default=0, help="measure after every N pools")
    parser.add_argument("--saved", default=os.path.join(tempfile.gettempdir(), "qwen-tiny-train.pt"), help="where progress is saved")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    blocks = read_texts()
    if args.check:
        figures, records = check(blocks, args.verbose)
        with open(README, encoding="utf-8") as f:
            good = figures_text(figures) in f.read()
        with open(ANSWERS, encoding="utf-8") as f:
            same = json.load(f) == records
        print(f"figures in README.md {'as measured' if good else 'DIFFER'}; testdata/answers.json {'the same' if same else 'DIFFERS'}")
        sys.exit(0 if good and same else 1)
    start = time.time()
    make_tokenizer(blocks)
    print(f"{len(blocks)} questions, {sum(len(b.questions) for b in blocks)} phrasings, {sum(len(b.unseen) for b in blocks)} of them kept apart")
    seconds = train(blocks, args)
    figures, records = check(blocks, args.verbose)
    write_records(records)
    write_figures(figures_text(figures, seconds))
    print(f"training {seconds:.0f} s, this run {time.time() - start:.0f} s; {len(records)} answers recorded")
    os.remove(args.saved)
    if figures["trained_right"] < 0.95 * figures["trained"] or figures["unseen_right"] < 0.60 * figures["unseen"]:
        sys.exit("the figures fall short: want 95 % of the trained and 60 % of the never-seen phrasings")


if __name__ == "__main__":
    main()

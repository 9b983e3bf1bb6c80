"""llama.cpp's side of a comparison. Runs in an environment of its own: `decoding` starts it.

`python llamacpp_writer.py FILE THREADS`: answers each line, a JSON list of how many tokens and of
prompts in tokens, with a JSON list: for each prompt, all answered at once, how many tokens came,
and the seconds until the first and the last of them. Prompts are read in their order, then a token
is written for each answer at a time.
"""

import json
import sys
import time

import llama_cpp as lib
import numpy as np

AT_ONCE = 16
PIECE = 512

lib.llama_backend_init()
model = lib.llama_model_load_from_file(sys.argv[1].encode(), lib.llama_model_default_params())
options = lib.llama_context_default_params()
options.n_ctx, options.n_seq_max, options.kv_unified = 8192, AT_ONCE, True
options.n_threads = options.n_threads_batch = int(sys.argv[2])
context = lib.llama_init_from_model(model, options)
vocabulary = lib.llama_model_get_vocab(model)
size = lib.llama_vocab_n_tokens(vocabulary)
batch = lib.llama_batch_init(PIECE, 0, 1)


def compute(rows: list[tuple[int, int, int]]) -> None:
    """A token, its place and the number of its text in each row."""
    batch.n_tokens = len(rows)
    for row, (token, place, text) in enumerate(rows):
        batch.token[row], batch.pos[row] = token, place
        batch.n_seq_id[row], batch.seq_id[row][0] = 1, text
        batch.logits[row] = row + 1 == len(rows) or rows[row + 1][2] != text
    assert not lib.llama_decode(context, batch)


def likeliest(row: int) -> int:
    return int(np.ctypeslib.as_array(lib.llama_get_logits_ith(context, row), (size,)).argmax())


def answer(prompts: list[list[int]], tokens: int) -> list[tuple[int, float, float]]:
    lib.llama_memory_clear(lib.llama_get_memory(context), True)
    begun = time.perf_counter()
    following, places, times = {}, {}, {}
    for text, prompt in enumerate(prompts):
        rows = [(token, place, text) for place, token in enumerate(prompt)]
        for begin in range(0, len(rows), PIECE):
            compute(rows[begin : begin + PIECE])
        following[text], places[text] = likeliest(-1), len(prompt)
        times[text] = [time.perf_counter() - begun]
    while following:
        compute([(token, places[text], text) for text, token in following.items()])
        for row, text in enumerate(list(following)):
            places[text] += 1
            following[text] = likeliest(row)
            times[text].append(time.perf_counter() - begun)
            if len(times[text]) == tokens or lib.llama_vocab_is_eog(vocabulary, following[text]):
                del following[text]
    return [(len(each), each[0], each[-1]) for each in times.values()]


print("ready", flush=True)
for line in sys.stdin:
    count, *asked = json.loads(line)
    print(json.dumps(answer(asked, count)), flush=True)

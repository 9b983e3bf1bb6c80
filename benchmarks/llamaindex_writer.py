"""LlamaIndex's side of a comparison. Runs in an environment of its own: `decoding` starts it.

`python llamaindex_writer.py MODEL`: answers each line, a JSON list of how many tokens and of
prompts, with a JSON list: for each prompt, all answered at once, how many tokens came, and the
seconds until the first and the last of them.
"""

import json
import sys
import threading
import time

from llama_index.core.llms import ChatMessage
from llama_index.llms.huggingface import HuggingFaceLLM

llm = HuggingFaceLLM(
    model_name=sys.argv[1],
    tokenizer_name=sys.argv[1],
    context_window=8192,
    generate_kwargs={"do_sample": False},
    device_map="cpu",
    is_chat_model=True,
)


def answer(number: int, prompt: str, begun: float, results: list[object]) -> None:
    first, text = 0.0, ""
    for response in llm.stream_chat([ChatMessage(role="user", content=prompt)]):
        text += response.delta or ""
        first = first or (time.perf_counter() - begun if text else 0.0)
    last = time.perf_counter() - begun
    results[number] = [len(llm._tokenizer.encode(text)), first, last]


print("ready", flush=True)
for line in sys.stdin:
    tokens, *prompts = json.loads(line)
    llm.max_new_tokens = tokens
    results: list[object] = [None] * len(prompts)
    begun = time.perf_counter()
    threads = [
        threading.Thread(target=answer, args=(number, prompt, begun, results))
        for number, prompt in enumerate(prompts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(results), flush=True)

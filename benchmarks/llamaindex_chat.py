"""LlamaIndex's side of a comparison. Runs in an environment of its own: `first_token` starts it.

`python llamaindex_chat.py EMBED_MODEL MODEL`: the first line of its input is a JSON list of
passages. Then each line is a JSON list of questions that follow one another, answered by a JSON
list of the seconds until the first token of each; or one text, a prompt for the model alone.
"""

import json
import sys
import time

from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.llms import ChatMessage
from llama_index.core.schema import TextNode
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.llms.huggingface import HuggingFaceLLM

Settings.embed_model = HuggingFaceEmbedding(model_name=sys.argv[1], device="cpu")
Settings.llm = llm = HuggingFaceLLM(
    model_name=sys.argv[2],
    tokenizer_name=sys.argv[2],
    context_window=8192,
    max_new_tokens=48,
    generate_kwargs={"do_sample": False},
    device_map="cpu",
    is_chat_model=True,
)


def seconds_to_first(texts: object, begun: float) -> float:
    first = 0.0
    for text in texts:
        if text and not first:
            first = time.perf_counter() - begun
    return first


passages = json.loads(sys.stdin.readline())
index = VectorStoreIndex([TextNode(text=text) for text in passages])
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if isinstance(asked, str):
        begun = time.perf_counter()
        stream = llm.stream_chat([ChatMessage(role="user", content=asked)])
        print(json.dumps([seconds_to_first((each.delta for each in stream), begun)]), flush=True)
        continue
    engine = index.as_chat_engine(chat_mode="condense_plus_context", similarity_top_k=4)
    times = []
    for question in asked:
        begun = time.perf_counter()
        times.append(seconds_to_first(engine.stream_chat(question).response_gen, begun))
    print(json.dumps(times), flush=True)

"""LlamaIndex's side of a comparison. Runs in an environment of its own: `retrieval` starts it.

`python llamaindex_peer.py TASK RESULT`: two JSON files. The result has for each question of the
task the ids of the `top_k` entries that are found, or with a `model` the text it is answered with.
"""

import json
import sys
from pathlib import Path

from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.embeddings.huggingface import HuggingFaceEmbedding

task = json.loads(Path(sys.argv[1]).read_text())
Settings.embed_model = HuggingFaceEmbedding(model_name=task["embed_model"], device="cpu")
nodes = [
    TextNode(id_=id_, text=text, metadata={"title": title}) for id_, title, text in task["entries"]
]
index = VectorStoreIndex(nodes)
results: list[object] = []
if task["model"]:
    from llama_index.llms.huggingface import HuggingFaceLLM

    Settings.llm = HuggingFaceLLM(
        model_name=task["model"],
        tokenizer_name=task["model"],
        context_window=8192,
        max_new_tokens=256,
        generate_kwargs={"do_sample": False},
        device_map="cpu",
        is_chat_model=True,
    )
    engine = index.as_query_engine()
    results += [str(engine.query(question)) for question in task["questions"]]
else:
    retriever = index.as_retriever(similarity_top_k=task["top_k"])
    results += [[hit.node_id for hit in retriever.retrieve(each)] for each in task["questions"]]
Path(sys.argv[2]).write_text(json.dumps(results))

"""Both models in one process, as the program has them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rag.index.embedding_huggingface import HuggingFaceEmbedding
from rag.llms.huggingface import HuggingFaceLLM
from rag.types import ChatMessage

pytestmark = pytest.mark.slow


def test_models_loaded_at_the_same_time_have_all_their_weights(
    smollm: HuggingFaceLLM, smollm_path: Path, minilm_path: Path
) -> None:
    """transformers keeps the place for new tensors in the process: two loads mixed it up."""
    question = [ChatMessage("user", "What is the capital of France?")]
    expected = "".join(smollm.stream(question, max_tokens=12))
    vector = HuggingFaceEmbedding(str(minilm_path)).embed_query("a river").vector
    for _ in range(6):
        with ThreadPoolExecutor(2) as pool:
            language = pool.submit(HuggingFaceLLM, str(smollm_path))
            embedding = pool.submit(HuggingFaceEmbedding, str(minilm_path))
        assert "".join(language.result().stream(question, max_tokens=12)) == expected
        assert np.array_equal(embedding.result().embed_query("a river").vector, vector)

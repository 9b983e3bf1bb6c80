"""An app process as `app.py` makes one, with a scripted model and hashed embeddings.

`python -m tests.deploying.serving DATA_DIR [TOKENS_PER_SECOND]`; all else comes from the
environment.
"""

import dataclasses
import sys
import threading
from pathlib import Path

from rag.config import Config
from rag.index.embedding import HashEmbedding
from rag.llms.scripted import ScriptedLLM
from rag.ui.backend import Backend
from rag.ui.health import Health
from rag.ui.page import build, launch
from rag.ui.programs import Programs

WORDS = 30
PER_SECOND = 20

if __name__ == "__main__":
    config = dataclasses.replace(
        Config.from_env(), data_dir=Path(sys.argv[1]), model="scripted", embed_model="hash"
    )
    config.data_dir.mkdir(parents=True, exist_ok=True)
    backend = Backend(config, HashEmbedding())
    words = " ".join(f"word{n}" for n in range(WORDS))
    pace = float(sys.argv[2]) if sys.argv[2:] else PER_SECOND
    backend.catalog.put("scripted", ScriptedLLM(words, tokens_per_second=pace))
    programs, health = Programs(backend), Health(backend)
    launch(build(programs), config, "127.0.0.1", health=health, programs=programs)
    backend.start()
    threading.Event().wait()

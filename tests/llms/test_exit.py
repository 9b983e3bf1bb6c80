"""A script that ends while an answer is being written ends as it would without."""

import subprocess
import sys

import pytest

ENDS = [("pass", 0), ("sys.exit(3)", 3), ("raise RuntimeError('mine')", 1)]

FAKE = """
import atexit, sys, threading, time
from collections import deque
from rag.llms.huggingface import HuggingFaceLLM
from rag.types import ChatMessage, Completion

def tell():  # after what is registered later
    print([t.name for t in threading.enumerate() if t.name.startswith("generate")])

atexit.register(tell)

class Fake(HuggingFaceLLM):
    def __init__(self):
        self.model_name, self.max_tokens, self._line = "fake", 9, deque()
        self._batch = None

    def _generate(self, messages, limit, temperature, stops, stopped, hand_over):
        while not stopped.is_set():
            hand_over("x")
            time.sleep(0.01)
        time.sleep(0.3)  # it was in the middle of a token
        return Completion("stopped")

llm = Fake()
"""

REAL = """
import sys, threading
from rag.llms.huggingface import HuggingFaceLLM
from rag.types import ChatMessage

llm = HuggingFaceLLM()
"""

ASKS = """
def begin(words=3):
    stream = llm.stream([ChatMessage("user", "Write a story about a fox.")])
    for _, _ in zip(range(words), (piece for piece in stream if piece)):
        pass
    return stream
"""


def ran(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(("end", "status"), ENDS)
def test_the_worker_is_stopped_before_python_is_taken_down(end: str, status: int) -> None:
    done = ran(f"{FAKE}{ASKS}\nstream = begin()\n{end}")
    assert done.returncode == status, done.stderr
    assert done.stdout == "[]\n"


def test_so_are_those_that_wait_for_their_turn_or_their_reader() -> None:
    done = ran(f"{FAKE}{ASKS}\nstreams = [begin(20), begin(20), begin(0)]\nnext(streams[2])")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_so_is_one_whose_reader_is_a_thread_that_is_dropped() -> None:
    reader = "threading.Thread(target=begin, args=(10**6,), daemon=True).start(); time.sleep(0.3)"
    done = ran(f"{FAKE}{ASKS}\n{reader}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.parametrize(("end", "status"), ENDS)
def test_with_the_real_model(end: str, status: int) -> None:
    """torch's code, ended in its middle, ended the process with status 134."""
    done = ran(f"{REAL}{ASKS}\nstream = begin()\n{end}")
    assert done.returncode == status, done.stderr
    assert "terminate called" not in done.stderr

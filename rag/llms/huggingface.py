"""`HuggingFaceLLM`: any causal language model of the Hugging Face Hub, run in process.

Each answer is computed in a worker thread, which hands its text over by a bounded queue and
watches an event, so that it never outlives the generator that reads it. torch and transformers
are loaded when the first model is.
"""

import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tokenizers.decoders import DecodeStream

from rag.errors import ContextWindowError, ModelError, ModelUnavailableError, RivuletError
from rag.llms.protocol import HEARTBEAT, TextStream
from rag.llms.relay import Pieces, drain
from rag.types import ChatMessage, Completion, FinishReason, Usage
from rag.weights import loading

AHEAD = 16
"""Pieces of text the worker may be ahead of its reader."""
SMALL = 1_000_000_000
"""Parameters below which a model is small."""
LOOP = 24
"""Tokens which, once written a second time in an answer, end it: a small model that decodes
greedily goes on repeating itself to the length limit."""
DEFAULT_WINDOW = 2048
"""Context window in tokens where the model's configuration states none."""


class HuggingFaceLLM:
    """The model in the folder `path`, which needs a chat template.

    One answer is computed at a time; others wait in the order of their asking. `steps` counts
    the tokens computed in all answers together. Decoding is greedy, so that the same question
    gets the same answer. Raises ModelUnavailableError when it cannot be loaded.
    """

    is_streaming = True

    def __init__(self, path: Path, model_name: str | None = None):
        self.model_name = model_name or path.name
        try:
            with loading() as (torch, transformers):
                self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                    path, local_files_only=True
                )
                cuda = torch.cuda.is_available()
                # float32 on a CPU: bfloat16 makes reading the prompt several times slower there.
                self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                    path, local_files_only=True, dtype=torch.bfloat16 if cuda else torch.float32
                )
                self._model.to("cuda" if cuda else "cpu").eval()
        except Exception as error:
            raise ModelUnavailableError(
                f"The model {self.model_name} cannot be loaded from {path}: {error}"
            ) from error
        if not self._tokenizer.chat_template:
            raise ModelUnavailableError(
                f"The model {self.model_name} has no chat template, so it cannot be asked "
                f"questions. Choose an instruction-tuned model."
            )
        self.context_window = int(
            getattr(self._model.config, "max_position_embeddings", DEFAULT_WINDOW)
        )
        self.is_small = self._model.num_parameters() < SMALL
        self.steps = 0
        self._turn = _Turn()

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def stream(self, messages: Sequence[ChatMessage], *, max_tokens: int) -> TextStream:
        pieces: Pieces = queue.Queue(AHEAD)
        stop = threading.Event()

        def hand_over(piece: str | Completion | Exception) -> None:
            while not stop.is_set():
                with suppress(queue.Full):
                    pieces.put(piece, timeout=HEARTBEAT)
                    return

        def work() -> None:
            try:
                with self._turn.wait(stop):
                    result: Completion | Exception = self._generate(
                        messages, max_tokens, stop, hand_over
                    )
            except RivuletError as error:
                result = error
            except Exception as error:  # it belongs to the reader, whatever it is
                result = ModelError(
                    f"The model {self.model_name} failed: {error}. Ask again, or choose another."
                )
                result.__cause__ = error
            hand_over(result)

        worker = threading.Thread(target=work, name=f"generate {self.model_name}", daemon=True)
        worker.start()
        try:
            return (yield from drain(pieces))
        finally:
            stop.set()
            worker.join()

    def _generate(
        self,
        messages: Sequence[ChatMessage],
        max_tokens: int,
        stop: threading.Event,
        hand_over: Any,
    ) -> Completion:
        if stop.is_set():
            return Completion("stopped")
        import torch

        prompt = self._tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in messages],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        ).to(self._model.device)
        length = prompt["input_ids"].shape[1]
        if length + max_tokens > self.context_window:
            raise ContextWindowError(
                f"The prompt has {length} tokens; with {max_tokens} for the answer it does not fit "
                f"the {self.context_window} tokens of {self.model_name}. Ask a shorter question, "
                f"or start a new conversation."
            )
        streamer = _Streamer(self._tokenizer, hand_over)
        with torch.inference_mode():
            self._model.generate(
                **prompt,
                max_new_tokens=max_tokens,
                do_sample=False,
                streamer=streamer,
                stopping_criteria=[lambda ids, *_, **__: self._step(ids, stop, streamer)],
            )
        ends = self._model.generation_config.eos_token_id
        ended = streamer.last_id in (ends if isinstance(ends, list) else [ends])
        finish: FinishReason = "length"
        if stop.is_set():
            finish = "stopped"
        elif ended:
            finish = "stop"
        return Completion(finish, Usage(length, streamer.count))

    def _step(self, ids: Any, stop: threading.Event, streamer: "_Streamer") -> Any:
        import torch

        self.steps += 1
        end = stop.is_set() or streamer.looping
        return torch.full((ids.shape[0],), end, dtype=torch.bool, device=ids.device)


class _Streamer:
    """Token ids in, text out, at a cost per token that does not grow with the answer."""

    def __init__(self, tokenizer: Any, hand_over: Any):
        self._backend = tokenizer.backend_tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._hand_over = hand_over
        self._prompt_seen = False
        self._recent: deque[int] = deque(maxlen=LOOP)
        self._seen: set[tuple[int, ...]] = set()
        self.looping = False
        self.last_id: int | None = None
        self.count = 0

    def put(self, ids: Any) -> None:
        if not self._prompt_seen:  # `generate` hands over the prompt first
            self._prompt_seen = True
            return
        for id_ in ids.tolist():
            self.count += 1
            self.last_id = id_
            self._recent.append(id_)
            run = tuple(self._recent)
            if len(run) == LOOP:
                self.looping = self.looping or run in self._seen
                self._seen.add(run)
            if text := self._decoder.step(self._backend, id_):
                self._hand_over(text)

    def end(self) -> None:
        """Nothing is held back but bytes that never became a character."""


class _Turn:
    """A lock whose waiters are served in the order of their coming."""

    def __init__(self) -> None:
        self._waiting: list[threading.Event] = []
        self._guard = threading.Lock()

    @contextmanager
    def wait(self, stop: threading.Event) -> Iterator[None]:
        """Hold the lock, or nothing when `stop` is set before it could be had."""
        mine = threading.Event()
        with self._guard:
            self._waiting.append(mine)
            self._waiting[0].set()
        try:
            while not (mine.wait(HEARTBEAT) or stop.is_set()):
                pass
            yield
        finally:
            with self._guard:
                self._waiting.remove(mine)
                if self._waiting:
                    self._waiting[0].set()

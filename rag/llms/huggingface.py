"""`HuggingFaceLLM`: any causal language model of the Hugging Face Hub, run in process.

What `decoding.Llama` can compute is computed by it, all answers together (`batching`). Anything
else is left to transformers' `generate`: there each answer is computed in a worker thread, which
hands its text over by a bounded queue and watches an event, so that it never outlives the generator
that reads it. torch and transformers are loaded when the first model is.
"""

import atexit
import copy
import functools
import inspect
import logging
import queue
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from rag.config import DEFAULT_MODEL, Config
from rag.errors import (
    ConfigurationError,
    ContextWindowError,
    ModelError,
    ModelUnavailableError,
    RivuletError,
)
from rag.llms.batching import AHEAD, Answer, Batch
from rag.llms.borrowing import borrowing
from rag.llms.decoding import Choice, Llama
from rag.llms.filters import StopSequences, open_tag
from rag.llms.prefixes import Prefixes
from rag.llms.protocol import HEARTBEAT, TextStream, check_options
from rag.llms.relay import Pieces, drain
from rag.llms.writing import Writer
from rag.types import ChatMessage, Completion, FinishReason, Prefill, Queued, Usage
from rag.weights import Report, ensure, loading

logger = logging.getLogger(__name__)

LEAVE = 60.0
"""Seconds to wait, when Python ends, for a worker."""
PIECE = 512
"""Tokens of a prompt that are read at a time by a model that is not small. It costs 3 %, and
with a small model, which reads quickly, 12 % (docs/decisions.md): that reads all at once."""
SMALL = 1_000_000_000
"""Parameters below which a model is small."""
DEFAULT_WINDOW = 2048
"""Context window in tokens where the model's configuration states none."""
CHOOSING = {"do_sample", "temperature", "top_k", "top_p"}
"""Options of `generate` that a `Choice` is made of."""
ASIDE = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "max_length", "max_new_tokens"),
    *("transformers_version", "_from_model_config"),
}
"""Those that change nothing in how a token is chosen."""
OWN_CACHE = {"past_key_values", "cache_implementation", "cache_config", "use_cache"}
"""Options of `generate` that say where keys and values are kept."""
INSTEAD = {
    **dict.fromkeys(("inputs", "input_ids", "inputs_embeds", "attention_mask"), "ask by messages"),
    **dict.fromkeys(("max_new_tokens", "max_length"), "set HuggingFaceLLM(max_new_tokens=...)"),
    **dict.fromkeys(("num_beams", "num_return_sequences"), "leave it out: one text is streamed"),
    "generation_config": "give its options one by one",
    "stop_strings": "give stop=[...] to the call",
    "stopping_criteria": "close the stream to end it",
    "streamer": "read the stream",
}
"""Options of transformers' `generate` that are not for `generate_kwargs`, and what is."""


class HuggingFaceLLM:
    """The model `model_name`, a Hub id or a local folder; it needs a chat template.

    Its weights are kept in `models_dir` (of the settings when None); `report` is told how far
    getting and loading them is. `tokenizer_name` is the Hub id or folder of another tokenizer
    than the model's own, `context_window` (in tokens) replaces what the model's configuration
    states. `generate_kwargs` are options of transformers' `generate` for every call; what is
    not given is what the model's authors state, which for the default model is greedy decoding.
    The attribute `model_name` is the name without its owner or folder.

    What was read of a prompt is known when another begins the same. A Llama on a CPU that chooses
    by `temperature`, `top_k` and `top_p` alone is computed quickly, all answers together. Of other
    models one answer is computed at a time; others wait in the order of asking, or go on while it
    waits for its reader. `steps` counts the tokens computed in all answers
    together. Raises ConfigurationError, and ModelUnavailableError when it cannot be had or loaded.
    """

    is_streaming = True

    def __init__(
        self,
        model_name: str = DEFAULT_MODEL,
        tokenizer_name: str | None = None,
        context_window: int | None = None,
        max_new_tokens: int = 256,
        generate_kwargs: Mapping[str, Any] | None = None,
        *,
        models_dir: Path | None = None,
        report: Report | None = None,
    ):
        check_options(max_new_tokens, None)
        self.model_name = Path(model_name).name
        self.max_tokens = max_new_tokens
        self._generate_kwargs = dict(generate_kwargs or {})
        for key in self._generate_kwargs.keys() & INSTEAD.keys():
            raise ConfigurationError(f"generate_kwargs cannot hold {key}: {INSTEAD[key]}.")
        models_dir = models_dir or Config.from_env().models_dir
        report = report or (lambda *_: None)
        path = ensure(model_name, models_dir, lambda doing, done: report(doing, 0.9 * done))
        tokenizer_path = _tokenizer_path(tokenizer_name, models_dir) if tokenizer_name else path
        report("Loading", 0.9)
        try:
            with loading() as (_, transformers):
                self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                    tokenizer_path, local_files_only=True
                )
                self._model: Any = _loaded(path)
        except Exception as error:
            raise ModelUnavailableError(
                f"The model {self.model_name} cannot be loaded from {path}: {error}"
            ) from error
        if not self._tokenizer.chat_template:
            raise ModelUnavailableError(
                f"The model {self.model_name} has no chat template, so it cannot be asked "
                f"questions. Choose an instruction-tuned model."
            )
        self._speaking = _special(self._tokenizer)
        self._stated = self._model.generation_config
        self._check_generate_kwargs()
        self.context_window = context_window or int(
            getattr(self._model.config, "max_position_embeddings", DEFAULT_WINDOW)
        )
        self.is_small = self._model.num_parameters() < SMALL
        self._caches = (
            self._model._supports_default_dynamic_cache()
            and "past_key_values" in inspect.signature(self._model.forward).parameters
        )
        self._prefixes = Prefixes()
        self._steps = 0
        self._line: Line = deque()
        self._borrowed = borrowing(self._generate)
        is_plain = self._borrowed or not self._choice(None)
        self._batch = None if is_plain else self._made_quick(path)

    def _made_quick(self, path: Path) -> Batch | None:
        """None where it cannot be. The weights are in memory once: one way or the other."""
        with loading():
            try:
                self._llama = Llama(self._model)
            except ValueError as error:
                logger.info("%s is left to transformers: %s", self.model_name, error)
                self._model = _loaded(path)
                return None
            self._model = None
        return Batch(self._llama, f"generate {self.model_name}", _workers.__setitem__)

    @property
    def steps(self) -> int:
        return self._steps + (self._batch.steps if self._batch else 0)

    def _check_generate_kwargs(self) -> None:
        options = copy.deepcopy(self._stated)
        try:
            unknown = set(options.update(**self._generate_kwargs))
        except Exception as error:
            raise ConfigurationError(f"generate_kwargs cannot be used: {error}") from error
        for takes in (self._model.generate, self._model.forward):
            unknown -= inspect.signature(takes).parameters.keys()
        for key in unknown:
            raise ConfigurationError(
                f"generate_kwargs cannot hold {key}: neither transformers nor the model "
                f"{self.model_name} knows it. Check its spelling."
            )

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(self._as_text(text), add_special_tokens=False))

    def _as_text(self, text: str) -> str:
        """`text` with what would end a turn of the conversation, and begin another, as mere text: a
        document must not speak as someone else."""
        return self._speaking.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
    ) -> TextStream:
        check_options(max_tokens, temperature)
        limit = self.max_tokens if max_tokens is None else max_tokens
        if self._batch and (choice := self._choice(temperature)):
            answer = self._answer(messages, limit, choice, StopSequences(stop))
            _at_exit()
            return (yield from self._batch.stream(answer))
        pieces: Pieces = queue.Queue(AHEAD)
        stopped = threading.Event()
        turn = _Turn(self._line, stopped, lambda ahead: pieces.put_nowait(Queued(ahead)))

        def hand_over(text: str | Prefill) -> None:
            try:
                pieces.put_nowait(text)
            except queue.Full:
                # A reader that has gone away without closing would block the model for ever.
                with turn.given_up():
                    put(text)

        def put(piece: str | Prefill | Completion | Exception) -> None:
            while not stopped.is_set():
                with suppress(queue.Full):
                    pieces.put(piece, timeout=HEARTBEAT)
                    return

        def work() -> None:
            try:
                with turn:
                    compute = self._borrowed or self._generate
                    result: Completion | Exception = compute(
                        messages, limit, temperature, StopSequences(stop), stopped, hand_over
                    )
            except RivuletError as error:
                result = error
            except BaseException as error:  # it belongs to the reader, whatever it is
                result = self._failed(error)
            put(result)

        worker = threading.Thread(target=work, name=f"generate {self.model_name}", daemon=True)
        worker.start()
        _workers[worker] = stopped
        _at_exit()
        try:
            return (yield from drain(pieces))
        finally:
            stopped.set()
            # The collector may close a stream that nobody holds in any thread, also in this one.
            if worker is not threading.current_thread():
                worker.join()

    def prefill(self, messages: Sequence[ChatMessage]) -> None:
        """Read what may be asked soon, as far as it is known: asked then, it is answered sooner.

        It returns at once. It is read while no answer is computed, and given up for a later call or
        a question. Nothing is done where answers are left to transformers.
        """
        if self._batch:
            with suppress(ContextWindowError):
                self._batch.read_ahead(self._prompt(messages, 1)[1])
                _at_exit()

    def forget(self) -> None:
        """Drop what is kept of prompts and answers to begin others sooner."""
        self._prefixes = Prefixes()
        if self._batch:
            self._batch.forget()

    def _generate(
        self,
        messages: Sequence[ChatMessage],
        max_tokens: int,
        temperature: float | None,
        stops: StopSequences,
        stopped: threading.Event,
        hand_over: Callable[[str | Prefill], None],
    ) -> Completion:
        if stopped.is_set():
            return Completion("stopped")
        import torch

        text, ids = self._prompt(messages, max_tokens)
        prompt, length = torch.tensor([ids], device=self._model.device), len(ids)
        if tag := open_tag(text):  # the template wrote it for the model
            hand_over(tag)

        def step() -> bool:
            self._steps += 1
            return stopped.is_set()

        told = -1

        def look(read: int) -> None:
            nonlocal told
            if stopped.is_set():
                raise _Ended
            if piece and told < read < length:
                told = read
                hand_over(Prefill(read, length))

        piece = PIECE if length > PIECE and not self.is_small else None
        watched = self._watched(look, piece)
        cache = watched.get("past_key_values") if self._steps_singly else None
        if cache is not None:
            self._prefixes.begin(cache, ids)
        writer = Writer(self._tokenizer, stops, hand_over)
        streamer = _Streamer(writer, step)
        try:
            with torch.inference_mode(), suppress(_Ended):
                self._model.generate(
                    input_ids=prompt,
                    attention_mask=torch.ones_like(prompt),
                    **self._options(temperature),
                    **watched,
                    max_new_tokens=max_tokens,
                    streamer=streamer,
                )
        finally:
            writer.end()
        finish: FinishReason = "length"
        if stopped.is_set():
            finish = "stopped"
        elif writer.last_id in self._ends or stops.stopped:
            finish = "stop"
        if finish != "stopped" and cache is not None and cache.is_cut_anywhere:
            del cache.look
            cache.tokens = [*ids, *streamer.ids][: cache.get_seq_length()]
            self._prefixes.keep(cache)
        return Completion(finish, Usage(length, writer.count))

    def _prompt(self, messages: Sequence[ChatMessage], max_tokens: int) -> tuple[str, list[int]]:
        """As the chat template has it: its text, and its tokens."""
        text = self._tokenizer.apply_chat_template(
            [
                {"role": message.role, "content": self._as_text(message.content)}
                for message in messages
            ],
            add_generation_prompt=True,
            tokenize=False,
        )
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        if len(ids) + max_tokens > self.context_window:
            raise ContextWindowError(
                f"The prompt has {len(ids)} tokens; with {max_tokens} for the answer it does not "
                f"fit the {self.context_window} tokens of {self.model_name}. Ask a shorter "
                f"question, or start a new conversation."
            )
        return text, ids

    @property
    def _ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        ends = self._generate_kwargs.get("eos_token_id", self._stated.eos_token_id)
        return frozenset(ends if isinstance(ends, list) else [ends])

    def _answer(
        self, messages: Sequence[ChatMessage], limit: int, choice: Choice, stops: StopSequences
    ) -> Answer:
        try:
            text, ids = self._prompt(messages, limit)
        except RivuletError:
            raise
        except Exception as error:  # of the chat template
            raise self._failed(error) from error
        pieces: Pieces = queue.Queue()
        if tag := open_tag(text):
            pieces.put(tag)
        writer = Writer(self._tokenizer, stops, pieces.put)
        return Answer(ids, limit, choice, self._ends, pieces, writer, self._failed)

    def _failed(self, error: BaseException) -> ModelError:
        # As torch says it, of the computer's and of a GPU.
        if isinstance(error, MemoryError) or re.search(r"\bmemory\b", str(error)):
            text = (
                f"The model {self.model_name} ran out of memory. Ask again, ask for less, or "
                f"choose a smaller one."
            )
        else:
            reason = str(error).rstrip(".") or type(error).__name__
            text = f"The model {self.model_name} failed: {reason}. Ask again, or choose another."
        failed = ModelError(text)
        failed.__cause__ = error
        return failed

    def _choice(self, temperature: float | None) -> Choice | None:
        """None where more is asked for than a `Choice` says."""
        options = copy.deepcopy(self._stated)
        if options.update(**self._options(temperature)):  # what is left over is for the model
            return None
        usual = options._get_default_generation_params() | {"use_cache": True}
        stated = options.to_dict()
        for key in stated.keys() - CHOOSING - ASIDE:
            if stated[key] is not None and stated[key] != usual.get(key, False):
                return None
        if not stated["do_sample"]:
            return Choice()
        temperature, top_k, top_p = (
            usual[key] if stated[key] is None else stated[key]
            for key in ("temperature", "top_k", "top_p")
        )
        return Choice(temperature, top_k, top_p)

    @property
    def _steps_singly(self) -> bool:
        """Whether `generate` computes token by token: where it guesses ahead, it leaves keys and
        values of tokens that were wrong."""
        options = copy.deepcopy(self._stated)
        options.update(**self._generate_kwargs)
        mode = options.get_generation_mode(self._generate_kwargs.get("assistant_model"))
        return mode in ("greedy_search", "sample")

    def _watched(self, look: Callable[[int], None], piece: int | None) -> dict[str, Any]:
        """Options of `generate` with which `look` is called in each layer, with the number of
        tokens that were read before. There are none where the model or its options have a cache
        of their own: such a model reads its prompt in one go."""
        stated = self._stated
        if (
            self._generate_kwargs.keys() & OWN_CACHE
            or stated.cache_implementation
            or stated.use_cache is False
            or not self._caches
        ):
            return {}
        cache = _watched_cache()(config=self._model.config.get_text_config(decoder=True))
        cache.look = look
        return {"past_key_values": cache, "prefill_chunk_size": piece}

    def _options(self, temperature: float | None) -> dict[str, Any]:
        options = self._generate_kwargs
        if temperature is None:
            return options
        if temperature == 0:
            return options | dict.fromkeys(("temperature", "top_k", "top_p")) | {"do_sample": False}
        return options | {"do_sample": True, "temperature": temperature}


def _loaded(path: Path) -> Any:
    import torch
    import transformers

    cuda = torch.cuda.is_available()
    # float32 on a CPU: bfloat16 makes reading the prompt several times slower there.
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path, local_files_only=True, dtype=torch.bfloat16 if cuda else torch.float32
    )
    return model.to("cuda" if cuda else "cpu").eval()


def _special(tokenizer: Any) -> "re.Pattern[str]":
    """What the tokenizer takes for more than text, wherever it stands."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    signs = sorted({*added, *tokenizer.all_special_tokens}, key=len, reverse=True)
    return re.compile("|".join(re.escape(sign) for sign in signs if len(sign) > 1) or "(?!)")


def _tokenizer_path(name: str, models_dir: Path) -> Path:
    """The folder of the tokenizer `name`, which need not hold a model."""
    local = Path(name).expanduser()
    return local if local.is_dir() else ensure(name, models_dir, lambda *_: None)


@functools.cache
def _watched_cache() -> Any:
    """A cache of keys and values that calls its `look` before each layer adds to it: there is no
    other place at which reading a prompt can be ended. `Prefixes` can keep it, with its tokens."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    class Watched(DynamicCache):  # type: ignore[misc]
        look: Callable[[int], None]
        tokens: list[int]

        @property
        def is_cut_anywhere(self) -> bool:
            """Whether a beginning of it is all that is there of that beginning."""
            return all(
                type(layer) is DynamicLayer and layer.is_initialized for layer in self.layers
            )

        @property
        def size(self) -> int:
            return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

        def take(self, other: Any, length: int) -> None:
            for own, kept in zip(self.layers, other.layers, strict=True):
                own.update(kept.keys[..., :length, :], kept.values[..., :length, :])

        def update(self, keys: Any, values: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
            self.look(self.get_seq_length(layer_idx))
            return super().update(keys, values, layer_idx, *args, **kwargs)

    return Watched


class _Ended(Exception):  # noqa: N818
    """Ends `generate` at once: its stopping criteria are asked before a token is streamed."""


class _Streamer:
    """What `generate` gives its tokens to. `step` is called for each, and says whether it is to be
    the last."""

    def __init__(self, writer: Writer, step: Callable[[], bool]):
        self._writer = writer
        self._step = step
        self._prompt_seen = False
        self.ids: list[int] = []

    def put(self, ids: Any) -> None:
        if not self._prompt_seen:  # `generate` hands over the prompt first
            self._prompt_seen = True
            return
        for id_ in ids.flatten().tolist():
            self.ids.append(id_)
            ended = self._writer.write(id_)
            if self._step() or ended:
                raise _Ended

    def end(self) -> None:
        """The writer is ended whatever happens."""


Line = deque[queue.SimpleQueue[None]]
"""Those who wait for their turn, in the order of their coming; the first has it."""


class _Turn:
    """A place in `line`: `with` it waits until it is the first, or `stop` is set. `tell` is told
    how many are before it, whenever that changes, and 0 when it has waited.

    There is no lock in it: the collector may close a stream in the middle of any line here, and
    that waits until the stream's worker has left.
    """

    def __init__(
        self, line: Line, stop: threading.Event, tell: Callable[[int], None] = lambda _: None
    ):
        self._line = line
        self._stop = stop
        self._tell = tell
        self._called: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __enter__(self) -> None:
        self._called = queue.SimpleQueue()
        self._line.append(self._called)
        self._call()
        told = 0
        while not self._stop.is_set():
            with suppress(queue.Empty):
                self._called.get(timeout=HEARTBEAT)
                break
            with suppress(ValueError, RuntimeError, queue.Full):  # the line may be just changing
                ahead = self._line.index(self._called)
                if ahead != told:
                    self._tell(ahead)
                    told = ahead
        if told:
            with suppress(queue.Full):
                self._tell(0)

    def __exit__(self, *_: object) -> None:
        self._line.remove(self._called)
        self._call()

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """Let the others go on meanwhile, and wait behind them."""
        self.__exit__()
        self._tell = lambda _: None  # it waits for its reader
        try:
            yield
        finally:
            self.__enter__()

    def _call(self) -> None:
        with suppress(IndexError):
            self._line[0].put(None)


_workers: WeakKeyDictionary[threading.Thread, threading.Event] = WeakKeyDictionary()
"""Those of answers that are not closed, and what stops them."""


@functools.cache
def _at_exit() -> None:
    """Have the workers stopped before Python is taken down; said once is enough.

    Python ends the threads that are left in the middle of what they do, and in torch's code that
    ends the process, with a status of its own.
    """
    atexit.register(_stop_workers)


def _stop_workers() -> None:
    workers = list(_workers.items())
    for _, stopped in workers:
        stopped.set()
    for worker, _ in workers:
        with suppress(RuntimeError):  # not started yet
            worker.join(LEAVE)

"""Figures of how the program is doing, for whoever runs it: Prometheus reads them.

They are counted whether or not anybody reads them, and served on a port of their own, without a
login.
No label holds a text, a name or an identity: labels are words of this file, and classes of errors.
Knows nothing of gradio.
"""

from collections.abc import Callable
from contextlib import closing

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from rag.errors import ConfigurationError, RivuletError
from rag.index.ingestion import Ingested, Rejected
from rag.llms.catalog import OPENAI
from rag.ui.conversations import Answer
from rag.ui.jobs import Steps

FIRST_TOKEN = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0)
"""Seconds; the bounds of what is counted together."""
SPEED = (1, 2, 5, 10, 15, 20, 30, 50, 75, 100, 200, 500)
"""Tokens per second."""
TAKING_IN = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Seconds."""


class Metrics:
    """The figures of one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.answering = Gauge(
            "rivulet_answers_running", "Answers that are being written", registry=registry
        )
        self._queued = Gauge(
            "rivulet_requests_queued",
            "Questions that wait for their turn",
            registry=registry,
        )
        self._answers = Counter(
            "rivulet_answers", "Answers by how they ended", ("ending",), registry=registry
        )
        self._first_token = Histogram(
            "rivulet_first_token_seconds",
            "From the question to the first token",
            ("model",),
            registry=registry,
            buckets=FIRST_TOKEN,
        )
        self._speed = Histogram(
            "rivulet_tokens_per_second",
            "Tokens per second after the first one, for each answer",
            ("model",),
            registry=registry,
            buckets=SPEED,
        )
        self._errors = Counter(
            "rivulet_errors", "Answers and documents that failed, by kind", ("kind",),
            registry=registry,
        )  # fmt: skip
        self._documents = Counter(
            "rivulet_documents", "Documents by what became of them", ("result",), registry=registry
        )
        self._passages = Counter(
            "rivulet_passages", "Passages that were put into an index", registry=registry
        )
        self._taking_in = Histogram(
            "rivulet_ingestion_seconds",
            "From the first step of a file to its last",
            registry=registry,
            buckets=TAKING_IN,
        )
        self._ingesting = Gauge(
            "rivulet_files_being_taken_in", "Files that are begun, and not over", registry=registry
        )

    def failed(self, error: BaseException) -> None:
        """Something a person asked for could not be done."""
        kind = type(error).__name__ if isinstance(error, RivuletError) else "unexpected"
        self._errors.labels(kind).inc()

    def answered(self, answer: Answer) -> None:
        """An answer that counted as being written is over."""
        self.answering.dec()
        self._answers.labels(answer.finish_reason or "stopped").inc()
        # Not its name: where any may be typed, that is a person's text.
        model = "server" if answer.model.startswith(OPENAI) else "local"
        if (seconds := answer.timings.first_token) is not None:
            self._first_token.labels(model).observe(seconds)
        if (speed := answer.timings.tokens_per_second) is not None:
            self._speed.labels(model).observe(speed)

    def ingesting(self, events: Steps) -> Steps:
        """Hands on what happens to a file, and counts it. Closing it closes `events`."""
        results: list[str] = []
        with self._ingesting.track_inprogress(), self._taking_in.time(), closing(events):
            try:
                for event in events:
                    if isinstance(event, Ingested):
                        results.append("same" if event.known_as else "added")
                        self._passages.inc(0 if event.known_as else event.passages)
                    elif isinstance(event, Rejected):
                        results.append("rejected")
                    yield event
            except GeneratorExit:
                results.append("cancelled")
                raise
            except Exception as error:
                results.append("failed")
                self.failed(error)
                raise
            finally:
                for result in results:
                    self._documents.labels(result).inc()

    def serve(
        self, host: str, port: int, queued: Callable[[], int] = lambda: 0
    ) -> Callable[[], None]:
        """Serve the figures at `host`, until what this returns is called. Raises
        ConfigurationError where the port cannot be had."""
        self._queued.set_function(queued)
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise ConfigurationError(
                f"Port {port} on {host} cannot be used for the figures ({error.strerror}). Choose "
                f"another by RAG_METRICS_PORT."
            ) from error

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return close

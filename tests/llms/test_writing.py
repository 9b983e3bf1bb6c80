"""From tokens to text, with a tokenizer of a few words."""

from tokenizers import Tokenizer, decoders, models

from rag.llms.filters import StopSequences
from rag.llms.writing import LOOP, Writer


class Words:
    """A tokenizer whose token 0 is special, and whose others are words."""

    def __init__(self, count: int):
        words = {"<end>": 0, **{f" w{n}": n for n in range(1, count)}}
        self.backend_tokenizer = Tokenizer(models.WordLevel(words, unk_token="<end>"))
        self.backend_tokenizer.decoder = decoders.Fuse()
        self.backend_tokenizer.add_special_tokens(["<end>"])


def written(ids: list[int], *stop: str) -> tuple[list[str], list[bool], Writer]:
    pieces: list[str] = []
    writer = Writer(Words(200), StopSequences(stop), pieces.append)
    ended = [writer.write(id_) for id_ in ids]
    writer.end()
    return pieces, ended, writer


def test_a_piece_for_each_token() -> None:
    pieces, ended, writer = written([1, 2, 0])
    assert "".join(pieces) == " w1 w2"
    assert not any(ended)
    assert (writer.count, writer.last_id, writer.stopped) == (3, 0, False)


def test_a_stop_sequence_over_two_tokens() -> None:
    pieces, ended, writer = written([1, 2, 3], "1 w2")
    assert "".join(pieces) == " w"
    assert ended == [False, True, True]
    assert writer.stopped


def test_what_was_held_back_comes_at_the_end() -> None:
    pieces, ended, _ = written([1, 2], "2 w3")
    assert "".join(pieces) == " w1 w2"
    assert not any(ended)


def test_what_is_written_a_second_time_ends_it() -> None:
    once = list(range(1, LOOP + 5))
    _, ended, _ = written([*once, *once])
    assert ended.index(True) == len(once) + LOOP - 1

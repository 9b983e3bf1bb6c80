"""Follow-up questions, told and put together without a model."""

import pytest

from rag.answering.follow_ups import depends, standalone


@pytest.mark.parametrize(
    "question",
    [
        "And her brother?",
        "what about Tuesday?",
        "Or else?",
        "How tall is it?",
        "When did he return to England?",  # the name comes after what points
        "Why?",
        "In what year?",
        "how many of them were there in the end",
        "And who led the Normans?",
    ],
)
def test_a_follow_up(question: str) -> None:
    assert depends(question)


@pytest.mark.parametrize(
    "question",
    [
        "Who built the Eiffel Tower?",
        "What did the Normans call their land?",
        "Who was Rollo?",
        "What is 3D printing?",
        "Where do my documents stay?",
        "Sollte man Äpfel schälen, bevor man Kuchen backt?",
        "",
    ],
)
def test_a_question_that_stands_by_itself(question: str) -> None:
    assert not depends(question) or not question


def test_the_question_it_hangs_on_goes_with_it() -> None:
    earlier = ["Who was Rollo?", "Who built the Eiffel Tower?"]
    assert standalone("How tall is it?", earlier) == "How tall is it? Who built the Eiffel Tower?"
    assert standalone("Who was Edison?", earlier) == "Who was Edison?"
    assert standalone("How tall is it?", []) == "How tall is it?"


def test_each_hangs_on_the_one_before_it() -> None:
    earlier = ["Who was Rollo?", "Which army destroyed the castle?", "In what year?"]
    assert standalone("And why?", earlier) == (
        "And why? In what year? Which army destroyed the castle?"
    )


@pytest.mark.parametrize(
    "question",
    ["hello", "Hi there!", "thanks", "Good morning", "午餐多少钱？", "ร้านเปิดกี่โมง", "Где ключ?"],
)
def test_greetings_and_other_scripts_are_searched_as_they_stand(question: str) -> None:
    assert standalone(question, ["What is the hotel limit?"]) == question

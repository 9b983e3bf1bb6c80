"""Numbers, dates and names: whether a passage has those of a sentence."""

import pytest

from rag.answering.facts import keys, missing


@pytest.mark.parametrize(
    ("sentence", "passage"),
    [
        ("It has 1,200 rooms.", "1200 rooms"),
        ("It has 1200 rooms.", "1.200 rooms"),
        ("It has 48 200 people.", "48200 people"),
        ("There were twelve.", "12 of them"),
        ("There were 12.", "twelve of them"),
        ("There were 24.", "twenty-four of them"),
        ("It cost 3 million.", "it cost 3,000,000"),
        ("It cost 3,000,000.", "it cost three million"),
        ("It is €3.50.", "3,5"),
        ("It is 007.", "7"),
        ("It was on March 3, 1847.", "on 3 March 1847"),
        ("It was on 3 March 1847.", "on 1847-03-03"),
        ("It was on 1847-03-03.", "on March 3rd, 1847"),
        ("It was in Sept. 1847.", "in September 1847"),
        ("It may be 3.", "3"),
        ("In the 10th century.", "in the tenth century"),
        ("In the 1840s.", "in 1840"),
        ("The U.S. is.", "the US"),
        ("In Núñez it was.", "Nunez"),
        ("To the Normans.", "A Norman"),
        ("By Rollo's men.", "Rollo"),
        ("One of the largest is here.", "x"),
        ("I am so.", "x"),
        ("Building it took long.", "x"),
        ("It is [here](https://example.org/47).", "x"),
        ("Die Stadt ist groß und der Sitz von Rat.", "x"),
        ("", "x"),
    ],
)
def test_what_a_passage_has(sentence: str, passage: str) -> None:
    assert missing(sentence, keys(passage)) == ()


@pytest.mark.parametrize(
    ("sentence", "passage", "lacking"),
    [
        ("It was in 1848.", "in 1847", ("1848",)),
        ("It has 1,200 rooms.", "1,300 rooms", ("1,200",)),
        ("It has 1.2 rooms.", "12 rooms", ("1.2",)),
        ("There were twelve.", "eleven of them", ("twelve",)),
        ("On 3 March 1847.", "on 3 May 1847", ("March",)),
        ("On 1847-03-03.", "on 1847-03-04", ("1847-03-03",)),
        ("It was Charles Martel.", "It was Rollo", ("Charles Martel",)),
        ("Hastings was here.", "Rollo was", ("Hastings",)),
        ("Charles Martel ruled.", "Rollo ruled", ("Charles Martel",)),
        ("NATO agreed.", "they agreed", ("NATO",)),
        ("It has vitamin D.", "vitamin C", ("D",)),
        ("It is H2O.", "water", ("H2O",)),
        ("Die Stadt ist groß und der Sitz der UNO.", "x", ("UNO",)),
        ("From 1847 to 1848, by Rollo.", "x", ("1847", "1848", "Rollo")),
        ("By Rollo and Rollo.", "x", ("Rollo",)),
    ],
)
def test_what_a_passage_lacks(sentence: str, passage: str, lacking: tuple[str, ...]) -> None:
    assert missing(sentence, keys(passage)) == lacking

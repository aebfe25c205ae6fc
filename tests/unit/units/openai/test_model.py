"""The model `smol`: what it calls, and what it says of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from smol.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from smol.types import Attachment
from smol.units.openai.conversation import Answer, Ask, Turn
from smol.units.openai.model import answer

PHOTO = Attachment(b"photo", "image/jpeg")


def thing(label: str, x: float, y: float) -> dict[str, Any]:
    return {"label": label, "score": 0.9, "box": {"x1": x - 5, "y1": y - 5, "x2": x + 5, "y2": y + 5}}


STREET = {
    "width": 300,
    "height": 300,
    "objects": [thing("dog", 50, 50), thing("dog", 150, 150), thing("traffic light", 290, 290)],
}


class Units:
    """Answers by operation; an answer that is an error is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {name.replace("__", "."): value for name, value in answers.items()}
        self.called: list[str] = []

    async def __call__(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        self.called.append(operation)
        found = self.answers.get(operation, NotFound(f"no operation {operation}"))
        if isinstance(found, Exception):
            raise found
        return found


def ask(text: str, units: Units, *, photo: bool = True) -> Answer:
    turn = Turn(role="user", text=text, images=[PHOTO] if photo else [])
    return asyncio.run(answer(Ask(turns=[turn]), units))


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("What is in this picture?", "I see 2 dogs and 1 traffic light."),
        ("How many dogs are there?", "I count 2 dogs."),
        ("How many cats are there?", "I count no cats."),
        ("How many objects are there?", "I count 3 objects."),
        ("Is there a traffic light?", "Yes, 1 traffic light."),
        ("Is there a bus?", "No, I see no bus. I do see: dog, traffic light."),
        (
            "Where is the traffic light?",
            "Traffic light at the bottom, right (x 285 to 295, y 285 to 295; 90% sure).",
        ),
        ("Where is the cat?", "I see no cat. I do see: dog, traffic light."),
    ],
)
def test_a_picture_is_told_in_words(question: str, words: str) -> None:
    found = ask(question, Units(detect__image=STREET))
    assert found.text == words
    assert found.used[0]["operation"] == "detect.image"


def test_places_are_told_by_thirds() -> None:
    text = ask("Where are the dogs?", Units(detect__image=STREET)).text
    assert "Dog at the top, left" in text
    assert "Dog in the middle" in text


def test_without_a_detector_the_whole_picture_is_classified() -> None:
    classes = [
        {"label": "tabby_cat", "score": 0.8},
        {"label": "tiger", "score": 0.1},
        {"label": "lynx", "score": 0.05},
    ]
    units = Units(detect__image=Unavailable("no model"), classify__image={"classes": classes})
    assert "looks like tabby cat (80%)" in ask("What is this?", units).text
    assert "can't find objects" in ask("How many cats are there?", units).text


def test_a_picture_of_an_earlier_turn_is_still_meant() -> None:
    turns = [Turn(role="user", text="What is this?", images=[PHOTO]), Turn(role="assistant", text="I see dogs."),
             Turn(role="user", text="How many dogs are there?")]  # fmt: skip
    found = asyncio.run(answer(Ask(turns=turns), Units(detect__image=STREET)))
    assert found.text == "I count 2 dogs."


def test_an_error_of_a_unit_becomes_words_and_stays_in_the_record() -> None:
    found = ask("1/0", Units(math__evaluate=InvalidArgument("division by zero")), photo=False)
    assert found.text == "That did not work: division by zero (INVALID_ARGUMENT)"
    assert found.used[0]["error"]["code"] == "INVALID_ARGUMENT"


def test_what_a_key_does_not_allow_is_refused_rather_than_told() -> None:
    with pytest.raises(PermissionDenied):
        ask("2+2", Units(math__evaluate=PermissionDenied("not with this key")), photo=False)


def test_code_without_a_unit_for_it_is_declined_plainly() -> None:
    assert "no unit named 'code'" in ask("```python\nprint(1)\n```", Units(), photo=False).text


def test_code_is_run_and_what_it_said_is_told() -> None:
    run = {"verdict": "ok", "stdout": "1\n", "stderr": "", "value": 2}
    found = ask("```python\nprint(1); 2\n```", Units(code__run=run), photo=False)
    assert found.text == "1\n2"
    assert found.used[0]["arguments"] == {"source": "print(1); 2\n", "language": "python"}
    ended = {"verdict": "memory", "stdout": "", "stderr": ""}
    assert ask("```python\nx\n```", Units(code__run=ended), photo=False).text == "It ended: memory."


def test_it_says_what_it_can_do_when_it_does_not_understand() -> None:
    units = Units()
    text = ask("Write me a poem", units, photo=False).text
    assert text.startswith("I do not understand that.")
    assert "compute and convert" in text
    assert units.called == []


def test_bytes_of_results_stay_out_of_the_record() -> None:
    found = ask('storage.get {"key": "a"}', Units(storage__get={"value": None, "attachment": PHOTO}), photo=False)
    assert found.used[0]["result"]["attachment"] == {"bytes": 5, "media_type": "image/jpeg"}

"""What instructions are understood as."""

from __future__ import annotations

import pytest

from smol.units.openai.understand import Intent, singular, understand


@pytest.mark.parametrize(
    ("text", "picture", "kind", "what"),
    [
        ("What's in this picture?", True, "describe", ""),
        ("Describe the photo", True, "describe", ""),
        ("", True, "describe", ""),
        ("How many dogs are there?", True, "count", "dog"),
        ("how many people do you see in the picture?", True, "count", "person"),
        ("Count the buses", True, "count", "bus"),
        ("how many objects are in this image?", True, "count", ""),
        ("Where is the cat?", True, "locate", "cat"),
        ("find all the cars in this photo", True, "locate", "car"),
        ("Is there a traffic light in the picture?", True, "check", "traffic light"),
        ("do you see any bikes", True, "check", "bicycle"),
        ("How many dogs are in the picture?", False, "no_picture", "dogs"),
        ("what is in this picture", False, "no_picture", ""),
        ("2+2", False, "compute", "2+2"),
        ("What is 2^100 / 3?", False, "compute", "2^100 / 3"),
        ("compute sqrt(2)", False, "compute", "sqrt(2)"),
        ("what is 12 plus 30", False, "compute", "12 + 30"),
        ("what is 15% of 80?", False, "compute", "15/100*80"),
        ("convert 5 miles to km", False, "compute", "5 mi to km"),
        ("How many feet are in 3 meters?", False, "compute", "3 m to ft"),
        ("what is 3 km in miles", False, "compute", "3 km to mi"),
        ("remember that my locker is 42", False, "remember", "locker"),
        ("What is my locker?", False, "recall", "locker"),
        ("forget my locker", False, "forget", "locker"),
        ("what do you remember?", False, "memories", ""),
        ("hello", False, "help", ""),
        ("What can you do?", False, "help", ""),
        ("Write me a poem about spring", False, "unknown", "Write me a poem about spring"),
        ("run this code:\n```python\nprint(1)\n```", False, "code", "print(1)\n"),
        ("run this program\n```\nsteps: []\n```", False, "program", "steps: []\n"),
        ("```yaml\nsteps: []\n```", False, "program", "steps: []\n"),
    ],
)
def test_an_instruction_is_understood(text: str, picture: bool, kind: str, what: str) -> None:
    intent = understand(text, picture)
    assert (intent.kind, intent.what) == (kind, what)


def test_a_fact_keeps_its_words() -> None:
    assert understand("Remember that my Locker is Box 42.", False) == Intent(
        kind="remember", what="locker", value="Box 42"
    )


def test_a_call_that_is_spelled_out_is_made_as_it_stands() -> None:
    intent = understand('call math.evaluate with {"expression": "1+1"}', False)
    assert (intent.operation, intent.arguments) == ("math.evaluate", {"expression": "1+1"})
    assert understand("math.evaluate {broken}", False).kind == "unknown"


@pytest.mark.parametrize(
    ("many", "one"),
    [
        ("dogs", "dog"),
        ("boxes", "box"),
        ("glasses", "glass"),
        ("people", "person"),
        ("berries", "berry"),
        ("bus", "bus"),
    ],
)
def test_things_are_named_as_networks_name_them(many: str, one: str) -> None:
    assert singular(many) == one


def test_a_hostile_text_is_understood_in_no_time() -> None:
    for text in (
        "how many " * 3000,
        "a " * 10_000 + "?",
        "remember " + "is " * 5000,
        "(" * 20_000,
        "where is " + "x " * 9000,
    ):
        understand(text, True)
        understand(text, False)


@pytest.mark.parametrize(
    ("above", "language"),
    [("", "python"), ("py", "python"), ("js", "javascript"), ("bash", "shell"), ("node", "node")],
)
def test_the_name_above_a_block_of_code_says_its_language(above: str, language: str) -> None:
    assert understand(f"run this:\n```{above}\n1\n```", False).language == language

"""Requests to the model `smol`, of each API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smol.types import Attachment
from smol.units.gateway.problems import Refusal
from smol.units.openai import chat, messages, responses
from smol.units.openai.conversation import Ask

USER = [{"role": "user", "content": "hi"}]


def no_files(file_id: str, param: str) -> Attachment:
    raise AssertionError(file_id)


def ask_of(wire: str, tools: list[Any]) -> Ask:
    if wire == "responses":
        body = json.dumps({"model": "smol", "input": "hi", "tools": tools}).encode()
        return responses.ask_of(responses.read_response(body), [], no_files)
    body = json.dumps({"model": "smol", "messages": USER, "tools": tools}).encode()
    if wire == "messages":
        return messages.ask_of(messages.read_message(body), no_files)
    return chat.ask_of(chat.read_chat(body), no_files)


@pytest.mark.parametrize("wire", ["chat", "responses", "messages"])
def test_smol_has_its_operations_whether_they_are_asked_for_or_not(wire: str) -> None:
    assert ask_of(wire, [{"type": "smol", "operations": ["math.*"]}]).tools == []


def test_a_value_of_none_of_the_choices_is_told_them() -> None:
    with pytest.raises(Refusal) as caught:
        chat.read_chat(b'{"model":"smol","messages":[{"role":"user","content":"hi"},{"role":"asistant"}]}')
    assert (caught.value.status, caught.value.param) == (400, "messages[1].role")
    assert caught.value.message.startswith(
        "messages[1].role can't be 'asistant' (did you mean 'assistant'?); known: system, "
    )

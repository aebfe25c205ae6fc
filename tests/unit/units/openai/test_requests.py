"""Requests to the model `smol`, of each API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smol.types import Attachment
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

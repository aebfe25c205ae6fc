"""LangChain's standard tests of chat models, for `langchain-openai` with a Smol behind it.

Run by the interpreter that has them, see `test_langchain.py`. Each property that says no says why.
"""

from __future__ import annotations

import os
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestChatCompletions(ChatModelIntegrationTests):
    """Through `/v1/chat/completions`."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": "smol",
            "base_url": os.environ["SMOL_URL"] + "/v1",
            "api_key": "any",
            "max_retries": 0,
            "stream_usage": True,
        }

    @property
    def model_override_value(self) -> str:
        return "smol"

    @property
    def supports_image_inputs(self) -> bool:
        """Smol reads pictures; the test fetches its own from the internet, which Smol's tests do without."""
        return False

    @property
    def supports_json_mode(self) -> bool:
        """The test names the keys that it wants in prose: a joke's. That takes a language model."""
        return False

    @property
    def supports_pdf_inputs(self) -> bool:
        """No unit reads PDF."""
        return False

    @property
    def supports_audio_inputs(self) -> bool:
        """No unit hears."""
        return False


class TestResponses(TestChatCompletions):
    """The same through `/v1/responses`."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "use_responses_api": True}

"""Answers that llama-index's OpenAILike gets from the endpoint in its environment, printed as JSON."""

import json
import os
import sys
from importlib.metadata import version

from llama_index.core.llms import ChatMessage, TextBlock
from llama_index.llms.openai_like import OpenAILike


def main(model: str) -> None:
    """Ask whole, streamed, in blocks, and again with its own answers as history."""
    at = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"], "max_retries": 0}
    llm = OpenAILike(model=model, is_chat_model=True, **at)
    question = ChatMessage(role="user", content="How do I bake bread?")
    more = ChatMessage(role="user", blocks=[TextBlock(text="And without"), TextBlock(text="an oven?")])
    whole = llm.chat([question])
    *_, streamed = llm.stream_chat([question])
    turns = [llm.chat([question, earlier.message, more]) for earlier in (whole, streamed)]
    report = {
        "client": "llama-index-llms-openai-like",
        "version": version("llama-index-llms-openai-like"),
        "whole": whole.message.content,
        "streamed": streamed.message.content,
        "turns": [turn.raw.choices[0].finish_reason for turn in turns],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])

"""Answers that `llm` gets from the endpoint in its environment, printed as JSON."""

import json
import os
import sys
from importlib.metadata import version

from llm.default_plugins.openai_models import Chat


def main(model: str) -> None:
    """Ask whole, streamed, and again in the same conversation."""
    chat = Chat(model, model_name=model, api_base=os.environ["OPENAI_BASE_URL"])
    chat.key = os.environ["OPENAI_API_KEY"]
    conversation = chat.conversation()
    whole = conversation.prompt("How do I bake bread?", system="Be brief.", stream=False)
    text = whole.text()
    streamed = "".join(chat.prompt("How do I bake bread?", stream=True))
    more = conversation.prompt("And without an oven?", stream=False)
    more.text()
    report = {
        "client": "llm",
        "version": version("llm"),
        "whole": text,
        "streamed": streamed,
        "turns": [more.response_json["choices"][0]["finish_reason"] if "choices" in more.response_json else "stop"],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])

"""Answers that langchain-openai gets from the endpoint in its environment, printed as JSON."""

import json
import sys
from functools import reduce
from importlib.metadata import version
from operator import add

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI

QUESTION = HumanMessage("How do I bake bread?")
BLOCKS = [{"type": "text", "text": "And without"}, {"type": "text", "text": "an oven?"}]


def main(model: str) -> None:
    """Ask whole, streamed, in content blocks, and again with its own answers as history."""
    chat = ChatOpenAI(model=model, max_retries=0)
    whole = chat.invoke([SystemMessage("Be brief."), QUESTION])
    streamed = reduce(add, chat.stream([QUESTION]))
    again = [HumanMessage(BLOCKS), HumanMessage(content_blocks=BLOCKS)]
    turns = [chat.invoke([QUESTION, earlier, more]) for earlier, more in zip((whole, streamed), again, strict=True)]
    batch = OpenAI(model=model, max_retries=0, max_tokens=4).generate(["Bread", "Rice"])
    report = {
        "client": "langchain-openai",
        "version": version("langchain-openai"),
        "whole": whole.content,
        "streamed": streamed.content,
        "turns": [turn.response_metadata["finish_reason"] for turn in turns],
        "batch": len(batch.generations),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])

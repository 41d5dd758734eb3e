"""Answers that pydantic-ai gets from the endpoint in its environment, printed as JSON."""

import json
import sys
from importlib.metadata import version

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel


def main(model: str) -> None:
    """Ask whole, streamed, in parts, and again with its own answers as history."""
    agent = Agent(OpenAIChatModel(model), instructions="Be brief.")
    whole = agent.run_sync("How do I bake bread?")
    with_parts = agent.run_sync(["And without", "an oven?"], message_history=whole.all_messages())
    streamed = agent.run_stream_sync("How do I bake bread?")
    text = streamed.get_output()
    after_stream = agent.run_sync("And without an oven?", message_history=streamed.all_messages())
    report = {
        "client": "pydantic-ai",
        "version": version("pydantic-ai-slim"),
        "whole": whole.output,
        "streamed": text,
        "turns": [turn.all_messages()[-1].finish_reason for turn in (with_parts, after_stream)],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])

"""Answers that litellm gets from the endpoint in its environment, printed as JSON."""

import json
import sys
from importlib.metadata import version

import litellm

QUESTION = {"role": "user", "content": "How do I bake bread?"}
MORE = {"role": "user", "content": [{"type": "text", "text": "And without an oven?"}]}


def main(model: str) -> None:
    """Ask whole, streamed, in parts, and again with its own answers as history."""
    name = f"openai/{model}"
    whole = litellm.completion(model=name, messages=[QUESTION])
    chunks = list(litellm.completion(model=name, messages=[QUESTION], stream=True))
    rebuilt = litellm.stream_chunk_builder(chunks, messages=[QUESTION])
    earlier = [whole.choices[0].message, whole.choices[0].message.model_dump(), rebuilt.choices[0].message]
    turns = [litellm.completion(model=name, messages=[QUESTION, one, MORE]) for one in earlier]
    batch = litellm.text_completion(model=f"text-completion-openai/{model}", prompt=["Bread", "Rice"], max_tokens=4)
    report = {
        "client": "litellm",
        "version": version("litellm"),
        "whole": whole.choices[0].message.content,
        "streamed": rebuilt.choices[0].message.content,
        "turns": [turn.choices[0].finish_reason for turn in turns],
        "batch": len(batch.choices),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])

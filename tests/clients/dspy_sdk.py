"""Answers that dspy gets from the endpoint in its environment, printed as JSON."""

import asyncio
import json
import os
import sys
from importlib.metadata import version

import dspy

QUESTION = {"role": "user", "content": "How do I bake bread?"}


async def streamed(model: dspy.LM) -> str:
    """The text of a streamed answer, which dspy gets through litellm."""
    from litellm import acompletion

    chunks = await acompletion(model=model.model, messages=[QUESTION], stream=True, **model.kwargs)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


def main(model: str) -> None:
    """Ask whole, streamed, and again with its own answer as history."""
    at = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"]}
    lm = dspy.LM(f"openai/{model}", cache=False, num_retries=0, **at)
    (whole,) = lm(messages=[QUESTION])
    text = whole if isinstance(whole, str) else whole["text"]
    lm(messages=[QUESTION, {"role": "assistant", "content": text}, {"role": "user", "content": "And then?"}])
    report = {
        "client": "dspy",
        "version": version("dspy"),
        "whole": text,
        "streamed": asyncio.run(streamed(lm)),
        "turns": [choice.finish_reason for choice in lm.history[-1]["response"].choices],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])

"""Replies that an OpenAI SDK (of the imported version) gets from the endpoint in its environment, printed as JSON."""

import json
import sys
from typing import Any

import openai


def main(model: str) -> None:
    """Request the models, one greedy answer whole, streamed and followed up, and one answer with a wrong key."""
    client = openai.OpenAI(max_retries=0, timeout=60)  # OPENAI_BASE_URL, OPENAI_API_KEY
    request: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": "What is 7 + 5?"}],
        "max_tokens": 16,
        "temperature": 0.0,
        "seed": 1,
    }
    whole = client.chat.completions.create(**request)
    pieces = list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    choices = [piece.choices[0] for piece in pieces if piece.choices]
    more = {"role": "user", "content": [{"type": "text", "text": "And 8 + 5?"}]}
    history = [*request["messages"], whole.choices[0].message, more]
    follow_up = client.chat.completions.create(**{**request, "messages": history})
    try:
        openai.OpenAI(api_key="wrong", max_retries=0, timeout=60).chat.completions.create(**request)
        refused = None
    except openai.AuthenticationError as error:
        refused = error.status_code
    print(
        json.dumps(
            {
                "client": "openai",
                "version": openai.__version__,
                "models": [served.id for served in client.models.list()],
                "whole": [whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage.to_dict()],
                "streamed": [
                    "".join(choice.delta.content or "" for choice in choices),
                    choices[-1].finish_reason,
                    pieces[-1].usage.to_dict(),
                ],
                "turns": [follow_up.choices[0].finish_reason],
                "pieces": len(choices),
                "refused": refused,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])

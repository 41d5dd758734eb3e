"""Fields of vLLM's own API, taken with the values that they have anyway, as local clients send them (pure)."""

from typing import Annotated, Any

from rapo_ray.serving.fields.base import Request
from rapo_ray.serving.fields.neutral import NEUTRAL, only


class EngineDefaults(Request):
    """Sampling and decoding of the engine as it is."""

    top_k: Annotated[Any, only(-1, 0)] = NEUTRAL
    min_p: Annotated[Any, only(0, 0.0)] = NEUTRAL
    repetition_penalty: Annotated[Any, only(1, 1.0)] = NEUTRAL
    length_penalty: Annotated[Any, only(1, 1.0)] = NEUTRAL
    min_tokens: Annotated[Any, only(0)] = NEUTRAL
    ignore_eos: Annotated[Any, only(False)] = NEUTRAL
    bad_words: Annotated[Any, only([])] = NEUTRAL
    stop_token_ids: Annotated[Any, only([])] = NEUTRAL
    include_stop_str_in_output: Annotated[Any, only(False)] = NEUTRAL
    skip_special_tokens: Annotated[Any, only(True)] = NEUTRAL
    spaces_between_special_tokens: Annotated[Any, only(True)] = NEUTRAL
    use_beam_search: Annotated[Any, only(False)] = NEUTRAL
    echo: Annotated[Any, only(False)] = NEUTRAL


class ChatDefaults(EngineDefaults):
    """The same, with the rendering of a chat."""

    add_generation_prompt: Annotated[Any, only(True)] = NEUTRAL
    continue_final_message: Annotated[Any, only(False)] = NEUTRAL
    include_reasoning: Annotated[Any, only(True)] = NEUTRAL

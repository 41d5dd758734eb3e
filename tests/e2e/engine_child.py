"""A real vLLM engine put through its paces, reported as JSON: `python -m tests.e2e.engine_child MODEL`."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from rapo_ray.engines.vllm_engine import CUT, EngineSettings, VllmEngine
from rapo_ray.errors import EngineError
from rapo_ray.models.source import ModelSource
from rapo_ray.types import Sampling

REQUESTS, LONG, SAMPLED = 64, 2000, 300
PROMPT = list(range(10, 30))


def sampling(tokens: int) -> Sampling:
    """Greedy sampling of up to `tokens` tokens."""
    return Sampling(0.0, 1.0, tokens, None, logprobs=False)


def error_of(future: Any) -> str:
    """Exception of a failed future, as text."""
    return f"{type(future.exception(60)).__name__}: {future.exception(60)}"


def texts(engine: VllmEngine) -> dict[str, Any]:
    """Figures on sampled completions, and those whose text is not that of vLLM's own detokenizer."""
    from vllm import SamplingParams, TokensPrompt
    from vllm.sampling_params import StructuredOutputsParams

    prompt = engine.encode_text("<|im_start|>assistant\n\u30d1\u30f3")
    wanted = [Sampling(1.0, 1.0, 4 + seed % 60, seed, logprobs=False) for seed in range(SAMPLED)]
    bread = ("\u30d1\u30f3 \U0001f35e is bread",)
    wanted += [Sampling(1.0, 1.0, tokens, 0, logprobs=False, choices=bread) for tokens in range(1, 40)]
    ours = [future.result(120) for future in engine.submit([(prompt, one) for one in wanted])]
    engine.pause()  # from here on this thread may step
    parameters = [
        SamplingParams(
            temperature=1.0,
            max_tokens=one.max_tokens,
            seed=one.seed,
            structured_outputs=StructuredOutputsParams(choice=list(one.choices)) if one.choices else None,
        )
        for one in wanted
    ]
    outputs = engine._llm.generate([TokensPrompt(prompt_token_ids=prompt)] * len(wanted), parameters, use_tqdm=False)
    engine.resume()
    theirs = [output.outputs[0] for output in outputs]
    pairs = list(zip(ours, theirs, strict=True))
    decode = engine._llm.get_tokenizer().decode
    return {
        "same tokens": sum(list(one.tokens) == list(other.token_ids) for one, other in pairs),
        "other": [[one.text, other.text] for one, other in pairs if one.text != other.text],
        "cut within a character": sum(decode(one.tokens).endswith(CUT) for one in ours),
        "whole characters": sum("\U0001f35e" in one.text for one in ours),
        "stopped": sum(not one.truncated for one in ours),
    }


def main() -> None:
    """Submit, pause and cancel requests, and break the engine at the end."""
    settings = EngineSettings(
        model=ModelSource.of(Path(sys.argv[1])), dtype="float32", max_model_len=4096, max_num_seqs=128,
        tensor_parallel=1, memory_share=0.9, enforce_eager=True, chunked_prefill=False, seed=0,
    )  # fmt: skip
    engine = VllmEngine(settings)
    step, steps, decoded = engine._engine.step, [0], [""]

    def counting() -> Any:
        steps[0] += 1
        outputs = step()
        decoded[0] += "".join(output.outputs[0].text for output in outputs)
        return outputs

    engine._engine.step = counting  # type: ignore[method-assign]
    report: dict[str, Any] = {}
    (writing,) = engine.submit([(PROMPT, sampling(LONG))])
    while not steps[0]:
        time.sleep(0.001)
    before = steps[0]
    futures = [engine.submit([([*PROMPT, 40 + number], sampling(1))])[0] for number in range(REQUESTS)]
    report["answered"] = len([future.result(60) for future in futures])
    report["steps"] = steps[0] - before
    engine.pause()
    before = steps[0]
    (waiting,) = engine.submit([(PROMPT, sampling(1))])
    time.sleep(0.3)
    report["while paused"] = [steps[0] - before, writing.done(), waiting.done()]
    engine.resume()
    report["afterwards"] = [len(waiting.result(60).tokens), len(writing.result(60).tokens)]
    (too_long,) = engine.submit([(PROMPT * 250, sampling(1))])
    report["too long"] = error_of(too_long)
    (cancelled,) = engine.submit([(PROMPT, sampling(LONG))])
    report["cancelled"] = cancelled.cancel()
    report["continues"] = len(engine.submit([(PROMPT, sampling(2))])[0].result(60).tokens)

    report["decoded in steps"] = decoded[0]
    report["texts"] = texts(engine)
    (labelled,) = engine.submit([(PROMPT, Sampling(0.0, 1.0, 1, None, logprobs=False, labels=("0", "1")))])
    report["label"] = [labelled.result(60).text, len(labelled.result(60).label_logprobs)]

    def breaking() -> Any:
        raise RuntimeError("broken")

    engine._engine.step = breaking  # type: ignore[method-assign]
    report["broken"] = error_of(engine.submit([(PROMPT, sampling(1))])[0])
    try:
        engine.submit([(PROMPT, sampling(1))])
    except EngineError as error:
        report["afterwards refused"] = str(error)
    print(json.dumps(report))


if __name__ == "__main__":
    main()

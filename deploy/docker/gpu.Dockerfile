# The image for GPUs: the steps of docs/gpus.md, owned by root and run by a user who may write to its home, /tmp and /runs only.
# CUDA 13 is what torch 2.13.0 and vLLM 0.29.0 are built for; the compiler is for DeepSpeed's kernels.
#   docker build -f deploy/docker/gpu.Dockerfile -t rapo-ray:0.1.0 .
FROM nvidia/cuda:13.0.2-devel-ubuntu24.04

# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ libnuma1 make ninja-build python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/rapo
COPY . .
RUN PIP_NO_CACHE_DIR=1 make setup-gpu
ENV PATH=/opt/rapo/.venv-gpu/bin:$PATH

# KubeRay starts Ray from a login shell, which sets PATH anew.
RUN echo "PATH=$PATH" > /etc/profile.d/rapo.sh

# The user cannot write byte code; without it each process compiles torch, vLLM and Ray anew. Some packages carry templates
# that are no Python, hence `|| true`.
RUN python -m compileall -q -j 0 .venv-gpu/lib rapo_ray actors || true

ENV RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1
# Serve's proxies close connections that send no headers.
ENV RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=rapo_ray.serving.headers.limit_headers
RUN useradd --uid 10001 --create-home --shell /bin/bash rapo && install -d -o rapo -g rapo /runs
USER 10001
WORKDIR /home/rapo
CMD ["python", "-m", "rapo_ray.train", "--help"]

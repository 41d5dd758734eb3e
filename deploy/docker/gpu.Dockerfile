# The image for GPUs: the steps of docs/gpus.md, owned by root and run by a user who may write to its home, /tmp and /runs only.
# CUDA 13 is what torch 2.13.0 and vLLM 0.29.0 are built for; the compiler is for flash-attn and DeepSpeed's kernels.
#   docker build -f deploy/docker/gpu.Dockerfile -t rapo-ray:0.1.0 .
FROM nvidia/cuda:13.0.2-devel-ubuntu24.04

# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ libnuma1 ninja-build python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/rapo
COPY . .
ENV PATH=/opt/rapo/.venv/bin:$PATH
RUN python3 -m venv .venv \
 && DS_BUILD_OPS=0 pip install --no-cache-dir -e '.[gpu]' \
 && pip install --no-cache-dir --no-deps openrlhf==0.11.2 \
 && pip install --no-cache-dir --no-build-isolation flash-attn==2.8.3

# KubeRay starts Ray from a login shell, which sets PATH anew.
RUN echo "PATH=$PATH" > /etc/profile.d/rapo.sh

# The user cannot write byte code; without it each process compiles torch, vLLM and Ray anew. Some packages carry templates
# that are no Python, hence `|| true`.
RUN python -m compileall -q -j 0 .venv/lib rapo_ray actors || true

ENV RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1
RUN useradd --uid 10001 --create-home --shell /bin/bash rapo && install -d -o rapo -g rapo /runs
USER 10001
WORKDIR /home/rapo
CMD ["python", "-m", "rapo_ray.train", "--help"]

"""The endpoint's two Serve applications: the engines of one version, and the ingress that calls them.

They are separate so that another version's engines can start beside the first ones and the ingress can change over
between two requests; `serve deploy deploy/serve.yaml` names the same two builders.
"""

import hashlib
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.llm import LLMConfig, build_llm_deployment
from ray.serve.llm.ingress import make_fastapi_ingress

from rapo_ray.config.serving import ServeConfig
from rapo_ray.engines.environment import cpu_threads
from rapo_ray.engines.vllm_engine import WORKER_EXTENSION
from rapo_ray.models.published import Published, read_published
from rapo_ray.serving.engine import CpuEngineServer, EngineServer, NoDownload
from rapo_ray.serving.fastapi_app import make_app
from rapo_ray.serving.ingress import RapoIngress
from rapo_ray.serving.versions import Serving, chat_of, serving_of

INGRESS = "rapo"
DRAIN_SECONDS = 120.0
ROUTES: dict[str, Any] = {
    "models": lambda app: app.get("/v1/models"),
    "model_data": lambda app: app.get("/v1/models/{model:path}"),
    "completions": lambda app: app.post("/v1/completions"),
    "chat": lambda app: app.post("/v1/chat/completions"),
    "health": lambda app: lambda method: app.get("/health")(app.head("/health", include_in_schema=False)(method)),
}


def model_app(config: ServeConfig) -> Application:
    """The engines of the config's model; raises ModelError where its publication is not complete."""
    settings = llm_config(config, read_published(config.model))
    server = CpuEngineServer if config.device == "cpu" else EngineServer
    return build_llm_deployment(settings, deployment_cls=server, override_serve_options={"name": "engine"})


def ingress_app(config: ServeConfig) -> Application:
    """The ingress for the engines of the config's model."""
    return ingress_for(config, serving_of(read_published(config.model), config.name, config.engines))


def ingress_for(config: ServeConfig, serving: Serving) -> Application:
    """The ingress for the engines of one version."""
    ingress = make_fastapi_ingress(RapoIngress, endpoint_map=ROUTES, app=make_app(config))
    deployment: Any = serve.deployment(
        ingress,
        name="ingress",
        max_ongoing_requests=4 * config.limits.in_flight,  # more than the guard admits, so that the guard refuses
        user_config=serving.to_json(),  # which running replicas receive
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        health_check_period_s=5,
        ray_actor_options={"num_cpus": 0},
    )
    # Serve takes every deploy for new code and restarts the ingress; with an equal version it only reconfigures it.
    deployment._version = settings_hash(config)
    bound: Application = deployment.bind(config.model_dump(mode="json"))
    return bound


def settings_hash(config: ServeConfig) -> str:
    """Hash of the settings that an ingress starts with, without the model, which changes while the ingress runs."""
    return hashlib.sha256(config.model_dump_json(exclude={"model"}).encode()).hexdigest()[:16]


def llm_config(config: ServeConfig, published: Published) -> LLMConfig:
    """Configuration of Ray Serve LLM."""
    cpu = config.device == "cpu"
    replicas = config.max_replicas or config.replicas
    scaling = {
        "min_replicas": config.replicas,
        "max_replicas": replicas,
        "target_ongoing_requests": config.max_num_seqs,
    }
    return LLMConfig(
        model_loading_config={"model_id": config.name or published.run, "model_source": str(published.folder)},
        accelerator_config={"kind": "cpu"} if cpu else {"kind": "gpu"},
        placement_group_config={"bundle_per_worker": {"CPU": config.cpus_per_replica}} if cpu else None,
        runtime_env={"env_vars": engine_variables(config)},
        callback_config={"callback_class": NoDownload},
        engine_kwargs={
            "dtype": config.dtype,
            "max_model_len": config.max_model_len,
            "max_num_seqs": config.max_num_seqs,
            "tensor_parallel_size": config.tensor_parallel,
            "gpu_memory_utilization": config.memory_share,
            "trust_remote_code": False,
            # vLLM tells it from loops over the parts alone; some templates take the first part without one
            "chat_template_content_format": "openai" if chat_of(published).parts else "auto",
            "worker_extension_cls": WORKER_EXTENSION,
            "generation_config": "vllm",
            "override_generation_config": {"max_new_tokens": config.limits.max_tokens},
            "enable_chunked_prefill": not cpu,  # on CPU vLLM cannot rewind a seeded request's generator
            "enforce_eager": cpu,
            "disable_log_stats": False,
            "enable_log_requests": False,
        },
        deployment_config={
            "autoscaling_config": scaling,
            "max_ongoing_requests": 4 * config.limits.in_flight,
            "graceful_shutdown_timeout_s": DRAIN_SECONDS,
            "health_check_period_s": 2,
            "health_check_timeout_s": 30,
            "ray_actor_options": {"num_cpus": 0 if cpu else config.cpus_per_replica},
        },
        log_engine_metrics=True,
    )


def engine_variables(config: ServeConfig) -> dict[str, str]:
    """Environment variables of an engine's processes."""
    variables = {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_MAX_N_SEQUENCES": str(config.limits.n),
        "VLLM_HOST_IP": "127.0.0.1",
        "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "0",  # it would serve vLLM's own routes
    }
    if config.device == "cpu":
        threads = config.threads or cpu_threads("cpu", config.replicas)
        variables |= {
            "OMP_NUM_THREADS": str(threads),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_KVCACHE_SPACE": str(config.kv_cache_gib),
        }
    return variables

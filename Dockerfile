# nemo_cosmos in a container.
#   docker build -t nemo-cosmos .                     on the NGC NeMo image (CUDA, Transformer Engine, Apex)
#   docker build -t nemo-cosmos:cpu --target cpu .    on a slim Python image, no GPU needed
#   docker run --rm -v "$PWD/outputs:/workspace/outputs" nemo-cosmos:cpu quickstart

ARG NEMO_IMAGE=nvcr.io/nvidia/nemo:25.09
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# --- CPU: every version pinned by constraints.txt, torch first and as its CPU build ----------------
FROM ${PYTHON_IMAGE} AS cpu
ARG TORCH=torch==2.13.0
# EGL renders the simulator; without it a software renderer takes over.
RUN apt-get update && apt-get install -y --no-install-recommends libegl1 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/nemo_cosmos
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "${TORCH}+cpu"
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY nemo_cosmos nemo_cosmos
COPY data_curation data_curation
COPY post_training post_training
COPY recipes recipes
COPY conf conf
RUN pip install --no-cache-dir --constraint constraints.txt ".[curation,eval,sim]" \
 && pip install --no-cache-dir --no-deps --constraint constraints.txt scenedetect
RUN useradd --create-home cosmos && mkdir -p /workspace && chown cosmos /workspace
USER cosmos
WORKDIR /workspace
ENTRYPOINT ["nemo-cosmos"]
CMD ["--help"]

# --- GPU, the default: the image brings torch, NeMo, Megatron-Core, Transformer Engine and Apex ----
FROM ${NEMO_IMAGE} AS gpu
WORKDIR /opt/nemo_cosmos
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY nemo_cosmos nemo_cosmos
COPY data_curation data_curation
COPY post_training post_training
COPY recipes recipes
COPY conf conf
# The image's own builds of the stack stay (--no-deps); only what it lacks is added.
RUN pip install --no-cache-dir --no-deps . \
 && pip install --no-cache-dir --no-deps nvidia-dali-cuda130==2.0.0 \
 && pip install --no-cache-dir "av>=14,<20" "typer>=0.29" "onnxruntime>=1.20,<2" "ray>=2.60,<3" \
 && pip install --no-cache-dir --no-deps --constraint constraints.txt scenedetect
WORKDIR /workspace
ENTRYPOINT ["nemo-cosmos"]
CMD ["--help"]

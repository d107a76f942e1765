# nemo_cosmos in a container.
#   docker build -t nemo-cosmos .                     on the NGC NeMo image (CUDA, Transformer Engine)
#   docker build -t nemo-cosmos:cpu --target cpu .    on a slim Python image, no GPU needed
#   docker run --rm -v "$PWD/outputs:/workspace/outputs" nemo-cosmos:cpu quickstart

# The last NeMo image with nemo.lightning; docs/install.md says why neither an older nor a newer one.
ARG NEMO_IMAGE=nvcr.io/nvidia/nemo:26.02.01
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
COPY docker docker
RUN cd / && python /opt/nemo_cosmos/docker/check_image.py
RUN useradd --create-home cosmos && mkdir -p /workspace && chown cosmos /workspace
USER cosmos
WORKDIR /workspace
ENTRYPOINT ["nemo-cosmos"]
CMD ["--help"]

# --- GPU, the default: the image brings torch, NeMo, Megatron-Core and Transformer Engine -----------
FROM ${NEMO_IMAGE} AS gpu
# The image's file of pip constraints refuses other releases without a word.
ENV PIP_CONSTRAINT="" UV_LINK_MODE=copy
WORKDIR /opt/nemo_cosmos
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY docker docker
# Megatron and Transformer Engine live in /opt/venv; the image's 'pip' and 'python3' are another
# interpreter, which does not see them. What the image built stays (--no-deps).
RUN uv pip install --no-cache --python /opt/venv/bin/python --no-deps --requirements docker/gpu-extra.txt
COPY nemo_cosmos nemo_cosmos
COPY data_curation data_curation
COPY post_training post_training
COPY recipes recipes
COPY conf conf
RUN uv pip install --no-cache --python /opt/venv/bin/python --no-deps .
# From another folder, so that the installed packages are imported and not the sources beside it.
RUN cd / && /opt/venv/bin/python /opt/nemo_cosmos/docker/check_image.py
WORKDIR /workspace
ENTRYPOINT ["/opt/venv/bin/python", "-m", "nemo_cosmos"]
CMD ["--help"]

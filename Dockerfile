# nemo_cosmos in a container.
#   docker build -t nemo-cosmos .                     on the NGC NeMo image (CUDA, Transformer Engine)
#   docker build -t nemo-cosmos:cpu --target cpu .    on a slim Python image, no GPU needed
#   docker run --rm -v "$PWD/outputs:/workspace/outputs" nemo-cosmos:cpu quickstart
#   bash docker/image_build.sh FOLDER                 the CPU stage where no registry can be reached

# The last NeMo image with nemo.lightning; docs/install.md says why neither an older nor a newer one.
ARG NEMO_IMAGE=nvcr.io/nvidia/nemo:26.02.01
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# --- CPU: every version pinned by constraints.txt. Each layer changes more often than the one before:
# system, torch as its CPU build, packages, our code (a few MB) -------------------------------------
FROM ${PYTHON_IMAGE} AS cpu
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
LABEL org.opencontainers.image.title="nemo-cosmos" \
      org.opencontainers.image.description="Curate video, train world models, generate with them: CPU" \
      org.opencontainers.image.licenses="Apache-2.0"
# EGL renders the simulator; without it a software renderer takes over.
RUN apt-get update && apt-get install -y --no-install-recommends libegl1 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home cosmos && mkdir -p /workspace && chown cosmos /workspace
WORKDIR /opt/nemo_cosmos
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" "${TORCH}+cpu"
COPY pyproject.toml constraints.txt ./
COPY docker docker
RUN python docker/requirements.py curation eval sim > /tmp/requirements.txt \
 && pip install --no-cache-dir --constraint constraints.txt --requirement /tmp/requirements.txt \
 && pip install --no-cache-dir --no-deps --constraint constraints.txt scenedetect \
 && rm /tmp/requirements.txt
COPY README.md LICENSE ./
COPY nemo_cosmos nemo_cosmos
COPY data_curation data_curation
COPY post_training post_training
COPY recipes recipes
COPY conf conf
RUN pip install --no-cache-dir --no-deps .
RUN cd / && python /opt/nemo_cosmos/docker/check_image.py
USER cosmos
WORKDIR /workspace
HEALTHCHECK --interval=5m --timeout=30s CMD ["nemo-cosmos", "--version"]
ENTRYPOINT ["nemo-cosmos"]
CMD ["--help"]

# --- GPU, the default: the image brings torch, NeMo, Megatron-Core and Transformer Engine -----------
FROM ${NEMO_IMAGE} AS gpu
LABEL org.opencontainers.image.title="nemo-cosmos" \
      org.opencontainers.image.description="Curate video, train world models, generate with them: GPU" \
      org.opencontainers.image.licenses="Apache-2.0"
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
HEALTHCHECK --interval=5m --timeout=30s CMD ["/opt/venv/bin/python", "-m", "nemo_cosmos", "--version"]
ENTRYPOINT ["/opt/venv/bin/python", "-m", "nemo_cosmos"]
CMD ["--help"]

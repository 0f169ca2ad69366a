# Everything but the model server: worker, watch, Prefect server, `noria` by hand. Which of them is the command's to say.
#
#     docker build -f infra/images/worker.Dockerfile --target cpu  -t noria-worker:0.1.0-cpu  .
#     docker build -f infra/images/worker.Dockerfile --target cuda -t noria-worker:0.1.0-cuda .
#
# Wheels of torch for CUDA bring CUDA's libraries, and the driver comes from the host (NVIDIA Container Toolkit): both
# targets stand on the same slim base. Production pins its bytes, too:
#     --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:DIGEST
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/noria
RUN python -m venv /opt/venv
COPY requirements/ requirements/
RUN /opt/venv/bin/pip install --no-deps --require-hashes --requirement requirements/base.txt
# `noria init` writes workspaces from the repository's own files, and the stages of a workspace lead to this path.
COPY pyproject.toml README.md LICENSE dvc.yaml params.yaml params.schema.json prefect.yaml .gitignore .dvcignore ./
COPY .dvc/config .dvc/config
COPY expectations/ expectations/
COPY workspaces/ workspaces/
COPY noria/ noria/
COPY tasks/ tasks/
COPY flows/ flows/
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation --editable . \
  && /opt/venv/bin/python -m compileall -q noria tasks flows

FROM build AS build-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN /opt/venv/bin/pip install --no-deps --require-hashes --extra-index-url "${TORCH_INDEX}" \
    --requirement requirements/cpu.txt \
  && /opt/venv/bin/pip uninstall --yes pip

FROM build AS build-cuda
RUN /opt/venv/bin/pip install --no-deps --require-hashes --requirement requirements/cuda.txt \
  && /opt/venv/bin/pip uninstall --yes pip

FROM ${PYTHON_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="noria-worker" \
  org.opencontainers.image.description="Noria's worker, watch and Prefect server" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.licenses="Apache-2.0"
# git: DVC keeps its records beside it. Debian keeps one version of it in a release, so a pin would only break builds.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends git \
  && rm -rf /var/lib/apt/lists/* \
  && groupadd --gid 10001 noria \
  && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin noria \
  && install -d -o noria -g noria /workspace /workspace/.noria
ENV PATH=/opt/venv/bin:$PATH \
  PYTHONDONTWRITEBYTECODE=1 \
  PYTHONUNBUFFERED=1 \
  HOME=/tmp \
  PREFECT_HOME=/tmp/prefect \
  DVC_SITE_CACHE_DIR=/tmp/dvc \
  MPLCONFIGDIR=/tmp/matplotlib \
  DO_NOT_TRACK=1 \
  DVC_NO_ANALYTICS=1 \
  GX_ANALYTICS_ENABLED=false \
  HF_HUB_OFFLINE=1 \
  PREFECT_SERVER_ANALYTICS_ENABLED=false \
  PREFECT_SERVER_UI_V2_ENABLED=false
USER 10001:10001
WORKDIR /workspace
# Of the worker, which is the default command; whoever gives another command gives its check, as compose.yaml does.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=4)"]

FROM runtime AS cpu
COPY --from=build-cpu /opt/venv /opt/venv
COPY --from=build-cpu /opt/noria /opt/noria
CMD ["prefect", "worker", "start", "--pool", "noria", "--type", "process", "--work-queue", "cpu", "--with-healthcheck"]

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/venv /opt/venv
COPY --from=build-cuda /opt/noria /opt/noria
CMD ["prefect", "worker", "start", "--pool", "noria", "--type", "process", "--work-queue", "gpu", "--with-healthcheck"]

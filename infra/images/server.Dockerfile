# The model server alone: `noria serve` on ONNX Runtime. No torch, no Prefect, no DVC, no compiler, no pip.
#
#     docker build -f infra/images/server.Dockerfile -t noria-server:0.1.0 .
#
# The tag of the base says what it is; production pins its bytes, too (`docker buildx imagetools inspect TAG` says them):
#     --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:DIGEST
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/noria
RUN python -m venv /opt/venv
COPY requirements/server.txt requirements/
RUN /opt/venv/bin/pip install --no-deps --require-hashes --only-binary :all: --requirement requirements/server.txt
COPY pyproject.toml README.md LICENSE ./
COPY noria/ noria/
# An editable install: the code stays at one path in every image. pip then leaves, which needs no network any more.
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation --editable . \
  && /opt/venv/bin/pip uninstall --yes pip \
  && /opt/venv/bin/python -m compileall -q noria

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="noria-server" \
  org.opencontainers.image.description="Noria's model server" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.licenses="Apache-2.0"
# /workspace/.noria is there, so that a volume can be mounted on it below a workspace that is read-only.
RUN groupadd --gid 10001 noria \
  && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin noria \
  && install -d -o noria -g noria /workspace /workspace/.noria
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/noria /opt/noria
ENV PATH=/opt/venv/bin:$PATH \
  PYTHONDONTWRITEBYTECODE=1 \
  PYTHONUNBUFFERED=1 \
  HOME=/tmp \
  DO_NOT_TRACK=1 \
  HF_HUB_OFFLINE=1
USER 10001:10001
WORKDIR /workspace
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["noria"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]

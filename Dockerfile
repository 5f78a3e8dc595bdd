# API and page of SliceWise: docker build --target cpu -t slicewise .   (or --target cuda)
# Versions and SHA-256 of every package are those of requirements/serving.lock and the locks below it.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /opt/slicewise
RUN python -m venv .venv
COPY requirements/base.lock requirements/pipeline.lock requirements/serving.lock requirements/
RUN .venv/bin/python -m pip install --require-hashes -r requirements/serving.lock
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY src src
# In place: the program reads configs/ beside its source.
RUN .venv/bin/python -m pip install --no-deps --no-build-isolation -e . && .venv/bin/python -m compileall -q src

FROM python:3.11-slim-bookworm AS base
# A number, so that Kubernetes can tell that it is not root.
RUN groupadd --gid 10001 slicewise \
    && useradd --uid 10001 --gid 10001 --no-log-init --create-home slicewise \
    && install -d -o slicewise -g slicewise /workspace
COPY --from=build /opt/slicewise /opt/slicewise
ENV PATH=/opt/slicewise/.venv/bin:$PATH SLICEWISE_WORKSPACE=/workspace PYTHONUNBUFFERED=1
WORKDIR /workspace
VOLUME /workspace
EXPOSE 8601 8602
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=5s --start-period=90s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8601/healthz', timeout=4)"]
ENTRYPOINT ["slicewise"]
# Other machines reach the container: an API key is needed (SLICEWISE_API_KEY_FILE), and the page is off without --page.
CMD ["serve", "--host", "0.0.0.0"]

FROM base AS cuda
# For NVIDIA's container runtime; the libraries of CUDA are among torch's packages.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM base AS cpu
CMD ["serve", "--host", "0.0.0.0", "runtime.device=cpu"]

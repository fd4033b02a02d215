# The image of the daemon. A release is built with the base pinned: --build-arg BASE=python:3.12-slim-bookworm@sha256:…
# docs/container.md says how to build it, how to run it hardened, and how to prove it without an engine.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
# One dependency (ijson) comes as source only; it is pure Python, so setuptools is enough and no compiler is installed.
# The tools are pinned and hashed like everything else: their part of the development lock.
# A registry of your own is named in a pip.conf that is mounted for these steps and never becomes part of a layer.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /tools \
    && awk '/^[a-z]/ { wanted = /^(hatchling|packaging|pathspec|pluggy|setuptools|tomlkit|trove-classifiers|wheel)==/ } wanted' \
        requirements-dev.lock > tools.lock \
    && /tools/bin/pip install --quiet --no-cache-dir --require-hashes --requirement tools.lock \
    && /tools/bin/pip wheel --quiet --no-cache-dir --no-build-isolation --require-hashes --requirement requirements.lock \
        --wheel-dir /wheels
COPY pyproject.toml README.md LICENSE ./
COPY itsms_sync ./itsms_sync
COPY connectors ./connectors
COPY mappings ./mappings
COPY config ./config
# The environment that is shipped has no pip: nothing can be installed into a running container.
RUN /tools/bin/pip wheel --no-cache-dir --no-index --no-build-isolation --no-deps --wheel-dir /wheels . \
    && python3 -m venv --without-pip /opt/venv \
    && /tools/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-index --no-deps /wheels/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="itsms_sync" \
      org.opencontainers.image.description="Compares the service desk with the documented procedures; opens corrective actions" \
      org.opencontainers.image.licenses="Apache-2.0"
# A fixed number, so that a volume or a secret can be given to it from outside.
RUN groupadd --gid 10001 itsms \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin itsms \
    && install --directory --owner=10001 --group=10001 --mode=0750 /data
COPY --from=build /opt/venv /opt/venv
# The root may be read-only: byte code was compiled by the build, and the program writes to /data and /tmp only.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Here the default of --config, config/itsms_sync.yaml, is the mounted /config/itsms_sync.yaml for every command.
WORKDIR /
USER 10001:10001
VOLUME ["/data"]
STOPSIGNAL SIGTERM
# A first read of years of history is one long cycle: set a longer --health-start-period for it.
HEALTHCHECK --interval=1m --timeout=20s --start-period=15m --retries=3 \
    CMD ["itsms-sync", "status", "--health", "10"]
ENTRYPOINT ["itsms-sync"]
CMD ["run", "--config", "/config/itsms_sync.yaml"]

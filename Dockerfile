# The server as an image, in two stages: the first builds, the second runs and holds no build tool.

# Another base is for whoever has a mirror; it must have Python 3.11 at the same path in both stages.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
# The locks come before the code: these layers are made again only when a dependency changes.
# The environment that is copied has no pip; the other one's pip fills it.
COPY requirements-build.lock requirements-server.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r requirements-build.lock \
    && python -m venv --without-pip /opt/sojourn \
    && /opt/build/bin/pip --python /opt/sojourn/bin/python install \
        --require-hashes -r requirements-server.lock
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/build/bin/pip --python /opt/sojourn/bin/python install --no-deps /wheels/sojourn-*.whl


FROM ${BASE}

COPY --from=build /opt/sojourn /opt/sojourn
# A number, so that an orchestrator can see that it is not root; /data is a volume for the store.
RUN install --directory --owner=10001 --group=10001 --mode=0750 /data
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 7070

# Settings are variables here and not arguments, so that `docker run IMAGE --flag` adds to them.
# The server refuses to listen beyond loopback without TLS and credentials. The image takes no side:
# whoever runs it configures both, or says --insecure.
ENV PATH="/opt/sojourn/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    SOJOURN_LISTEN=0.0.0.0:7070 \
    SOJOURN_STORE=sqlite:////data/sojourn.db

# The command waits two seconds for an answer, and a slow machine needs a while to start it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["sojourn-server", "health"]
ENTRYPOINT ["sojourn-server"]

# One image for every process: `api`, `worker`, `migrate`.

FROM docker.io/library/python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/build.lock requirements/runtime.lock requirements/
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/build.lock \
 && python -m venv --without-pip /opt/usa \
 && /opt/build/bin/pip --python /opt/usa/bin/python \
      install --require-hashes --only-binary :all: -r requirements/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/usa/bin/python install --no-deps /wheels/*.whl

FROM docker.io/library/python:3.12-slim-bookworm
RUN groupadd --gid 10001 usa \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin usa
COPY --from=build /opt/usa /opt/usa
ENV PATH=/opt/usa/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 3000 9100
# Health is asked over HTTP by who runs it: /healthz and /readyz, of workers on port 9100.
ENTRYPOINT ["usa"]
CMD ["--help"]

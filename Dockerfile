# One image for every process: `api`, `worker`, `migrate`.

FROM docker.io/library/python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_PROGRESS_BAR=off
WORKDIR /src
COPY requirements/build.lock requirements/runtime.lock requirements/
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/build.lock \
 && python -m venv --without-pip /opt/usa \
 && /opt/build/bin/pip --python /opt/usa/bin/python \
      install --require-hashes --only-binary :all: --no-compile --report /installed.json \
      -r requirements/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/usa/bin/python install --no-deps --no-compile /wheels/*.whl
COPY requirements/sbom.py requirements/
# Bytecode of what a start imports, as nothing can be written later; that of all else is 25 MB.
RUN /opt/usa/bin/python requirements/sbom.py /installed.json /wheels/*.whl > /opt/usa/sbom.cdx.json \
 && cd / && /opt/usa/bin/python -c \
      'import service.agent.anthropic_model, service.bootstrap, service.cli.serving, jwt, uvloop'

FROM docker.io/library/python:3.12-slim-bookworm
RUN groupadd --gid 10001 usa \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin usa
COPY --from=build /opt/usa /opt/usa
ENV PATH=/opt/usa/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 3000 9100
# Whether it lives, of every process that serves; not /readyz, or a database away restarts them all.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + (os.environ.get('USA_METRICS_PORT') or '9100') + '/healthz', timeout=3)"]
ENTRYPOINT ["usa"]
CMD ["--help"]

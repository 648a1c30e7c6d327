# The image of both processes of a cluster: `scorefront router` and `scorefront control`.
#   docker build -t registry.example.com/scorefront:0.1.0 .

# The base is pinned by the digest of its multi-platform index (Python 3.11.16, built 2026-09-19, as docker-library/repo-info
# records it). A newer one: docker buildx imagetools inspect python:3.11-slim-bookworm
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS build
WORKDIR /src
# the compiler of the modules that each request runs (mypyc writes C); only in this stage
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/build && python -m venv --without-pip /opt/scorefront
COPY deploy/image/build.lock deploy/image/runtime.lock ./
RUN /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r build.lock \
 && /opt/build/bin/pip --python /opt/scorefront install --no-cache-dir --disable-pip-version-check \
    --require-hashes --only-binary :all: --no-deps -r runtime.lock
COPY LICENSE README.md pyproject.toml setup.py ./
COPY autoscaler autoscaler
COPY cluster cluster
COPY controlplane controlplane
COPY router router
COPY scorefront scorefront
COPY serving serving
COPY telemetry telemetry
COPY workspace workspace
# PYTHONPATH: the types of the packages beside the product. Without SCOREFRONT_COMPILE the image is pure Python.
RUN PYTHONPATH=/opt/scorefront/lib/python3.11/site-packages SCOREFRONT_COMPILE=1 /opt/build/bin/pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation -w /src/dist . \
 && /opt/build/bin/pip --python /opt/scorefront install --no-cache-dir --disable-pip-version-check --no-deps /src/dist/*.whl \
 && /opt/scorefront/bin/scorefront --version

FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
# No installers in the runtime image.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.11/ensurepip /usr/local/lib/python3.11/site-packages/* \
 && groupadd --gid 10001 scorefront \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin scorefront
COPY --from=build /opt/scorefront /opt/scorefront
ENV PATH=/opt/scorefront/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
# scoring, REST, admin, link between routers and control
EXPOSE 8080 8081 8082 8083
# No init beside it: both processes handle their signals and wait for their children themselves.
ENTRYPOINT ["scorefront"]
CMD ["--help"]

# One image for all services: workers, beat, Flower, the live page and simulations.
ARG PYTHON_IMAGE=python:3.13.9-slim-trixie
FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md celeryconfig.py ./
COPY tracker tracker
COPY workers workers
COPY simulator simulator
# The lock pins the versions of the package's dependencies; development tools are not installed.
RUN python -m venv /opt/sendtrace \
    && /opt/sendtrace/bin/pip install --no-cache-dir --constraint requirements.lock .

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="sendtrace"
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/sendtrace sendtrace
COPY --from=build /opt/sendtrace /opt/sendtrace
COPY scenarios /opt/sendtrace/scenarios
ENV PATH=/opt/sendtrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SENDTRACE_HOME=/var/lib/sendtrace/home
USER sendtrace
RUN mkdir --mode=0700 /var/lib/sendtrace/home
WORKDIR /var/lib/sendtrace
VOLUME /var/lib/sendtrace/home
CMD ["sendtrace", "--help"]

# The appliance in one image. `make image` builds it; docs/install.md says how to run it.
#
# Three steps: the Python environment, then everything a container needs laid over Debian and
# trimmed, then that as one layer. Nothing here needs BuildKit, so older builders and podman work.
# By its digest, a base is the same one on every builder: --build-arg BASE=NAME@sha256:...
ARG BASE=debian:trixie-slim

# --- The Python environment, as the lock file names it ---------------------------------------
FROM ${BASE} AS environment
RUN apt-get update \
 && apt-get install --yes --no-install-recommends binutils ca-certificates python3 python3-venv
COPY requirements.lock /source/
# Without PIP_CERT pip trusts only the authorities it carries, and not those that the base has.
RUN python3 -m venv /opt/appliance \
 && export PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 \
 && /opt/appliance/bin/pip install --no-cache-dir --no-compile --require-hashes \
      --requirement /source/requirements.lock \
 && find /opt/appliance -name '*.so' -exec strip --strip-unneeded {} +
COPY LICENSE README.md pyproject.toml setup.cfg /source/
COPY appliance /source/appliance
RUN /opt/appliance/bin/pip install --no-cache-dir --no-compile --no-deps --no-build-isolation \
      /source \
 && /opt/appliance/bin/pip uninstall --yes --quiet setuptools pip

# --- Everything the container needs, trimmed -------------------------------------------------
FROM ${BASE} AS system
# The packages' scripts would start a broker where they find an init system.
RUN printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d \
 && apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 rabbitmq-server \
 && rm /usr/sbin/policy-rc.d
# A fixed number, so that a volume's files keep their owner from image to image.
RUN groupadd --gid 10001 appliance \
 && useradd --uid 10001 --gid appliance --home-dir /data --no-create-home \
      --shell /usr/sbin/nologin appliance
COPY --from=environment /opt/appliance /opt/appliance
COPY supervisor /etc/supervisor
COPY rootfs /
COPY tools/trim_image.py /tmp/
RUN python3 /tmp/trim_image.py
# -B: byte code of what only this reads would stay.
COPY requirements.lock tools/sbom.py /tmp/sbom/
RUN python3 -B /tmp/sbom/sbom.py --lock /tmp/sbom/requirements.lock \
      --libraries /opt/appliance/lib/python3*/site-packages --python /opt/appliance/bin/python \
      --dpkg /var/lib/dpkg/status --output /usr/share/doc/queue-appliance/sbom.cdx.json \
 && rm -r /tmp/sbom

# --- One layer -------------------------------------------------------------------------------
FROM scratch
COPY --from=system / /
# A read-only container mounts an empty /run with this mode; the folders in it are made at start.
RUN chmod 1777 /run /tmp && install -d -o appliance -g appliance -m 0700 /data

ENV PATH=/opt/appliance/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    APPLIANCE_DATA=/data \
    APPLIANCE_RUN=/run/appliance \
    APPLIANCE_HTTP=0.0.0.0:8080

USER appliance
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
  CMD ["appliance-health"]
ENTRYPOINT ["appliance"]
CMD ["run"]

# At the end: they are others each time, and nothing behind them is made again.
ARG VERSION=0
ARG REVISION=unknown
ARG CREATED=unknown
ARG BASE=debian:trixie-slim
# Of the base that was built on; empty where it came from no registry.
ARG BASE_DIGEST=
LABEL org.opencontainers.image.title="Queue Appliance" \
      org.opencontainers.image.description="A durable HTTP inbox: POST a message, find it as a row" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"

# nginx from Debian's packages, laid out as the official image of it is: for the tests of
# deploy/compose/scale on machines that reach no registry of images.
ARG BASE=debian:trixie-slim
FROM ${BASE}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends nginx-light \
 && rm -rf /var/lib/apt/lists/*
STOPSIGNAL SIGQUIT

#!/bin/bash
# make-image.sh SUITE NAME: a Docker image of a Debian host, made from Debian's packages, whose first
# process is systemd. What the appliance's package depends on is not installed but lies in apt's
# cache, so that installing it is the real thing without the wait for a mirror.
set -euo pipefail

# shellcheck disable=SC2016  # the hooks' "$1" is mmdebstrap's
mmdebstrap --variant=minbase --include=systemd-sysv,dbus --skip=cleanup/apt \
  --aptopt='APT::Install-Recommends "false"' \
  --customize-hook='chroot "$1" apt-get install --quiet --yes --download-only python3 rabbitmq-server' \
  --customize-hook='rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/*' \
  "$1" - | docker import --change 'CMD ["/sbin/init"]' - "$2"

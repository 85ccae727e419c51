#!/bin/bash
# make-root.sh SUITE FILE.tar: the files of a Debian machine with a kernel, made from Debian's
# packages, with all that the appliance's package depends on.
set -euo pipefail

# shellcheck disable=SC2016  # the hook's "$1" is mmdebstrap's
mmdebstrap --format=tar --variant=minbase --aptopt='APT::Install-Recommends "false"' \
  --include=systemd-sysv,linux-image-cloud-amd64,udev,dbus,python3,rabbitmq-server \
  --customize-hook='rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/*' \
  "$1" "$2.part"
mv "$2.part" "$2"

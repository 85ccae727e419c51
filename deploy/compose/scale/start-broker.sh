#!/bin/bash
# Starts one broker of the cluster: gives it the secrets that Docker mounted.
set -euo pipefail
umask 077
home=/var/lib/rabbitmq
cd "$home"

# Erlang wants the cookie as a file of its own user. It may be there from an earlier start.
rm -f "$home/.erlang.cookie"
tr -d '\n' < /run/secrets/cookie > "$home/.erlang.cookie"
chmod 0400 "$home/.erlang.cookie"

# The user and the password that the appliance has in the first of its URLs.
login=$(sed -n '1s|^amqp://\([^@/]*\)@.*|\1|p' /run/secrets/broker-url)
cp /etc/appliance/rabbitmq.conf /tmp/rabbitmq.conf
printf 'default_user = %s\ndefault_pass = %s\n' "${login%%:*}" "${login#*:}" >> /tmp/rabbitmq.conf

RABBITMQ_NODENAME="rabbit@$(hostname)"
export HOME="$home" RABBITMQ_NODENAME RABBITMQ_CONFIG_FILE=/tmp/rabbitmq.conf
export RABBITMQ_MNESIA_BASE="$home/mnesia" RABBITMQ_LOGS=-
export RABBITMQ_ENABLED_PLUGINS_FILE="$home/enabled_plugins" RABBITMQ_PID_FILE=/tmp/rabbitmq.pid
# Erlang's tables grow with it, and some engines allow a thousand million.
ulimit -S -n 16384 || true
exec rabbitmq-server

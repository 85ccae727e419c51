#!/bin/bash
# One of the two PostgreSQL servers. `start` starts it as the primary or as the other one's standby:
# that one is asked first, so a primary that was replaced stores nothing when it comes back.
# `promote` makes it the primary. docs/scaling.md says when to call it.
set -euo pipefail
umask 077

home=/var/lib/postgresql/data
data=$home/main
# It stores without the other server, until that one follows it: `promote` was called.
alone=$home/alone
# It was made here, and no standby has it yet.
fresh=$home/fresh
# It is the standby, and has all that the primary has acknowledged.
complete=$home/complete
# Its files are being rewritten: they are no database yet.
unfinished=$home/unfinished
error=/tmp/error

name=$(hostname)
peer=${PEER:?is the name of the other server}
PGPASSWORD=$(</run/secrets/postgres-password)
export PGPASSWORD PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=2 PGAPPNAME=$name

say() {
  printf '%s %s: %s\n' "$(date --utc +%FT%TZ)" "$name" "$*" >&2
}

fail() {
  say "$*"
  exit 1
}

# ask HOST STATEMENT: print the answer; /tmp is this server's own socket
ask() {
  timeout "${PATIENCE:-8}" psql --no-psqlrc --no-align --tuples-only --quiet --host "$1" --command "$2" 2>"$error"
}

# look HOST: print `standby`, or `primary`, its timeline, its place in the log and whether it `waits`
# for a standby or stores `alone`; nothing where it does not answer
look() {
  ask "$1" "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE concat_ws(' ', 'primary',
    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), pg_current_wal_lsn(),
    CASE current_setting('synchronous_standby_names') WHEN '' THEN 'alone' ELSE 'waits' END) END" \
    || :
}

# make: a new, empty database with the appliance's user in it
make() {
  local url rest
  say 'makes a new database'
  read -r url </run/secrets/database-url || :
  rest=${url#*://}
  rm -rf "$home/new"
  initdb --pgdata "$home/new" --username postgres --pwfile /run/secrets/postgres-password \
    --auth-local peer --auth-host scram-sha-256 --encoding UTF8 --locale C.UTF-8 \
    --data-checksums --no-instructions >&2
  pg_ctl --pgdata "$home/new" --wait --silent \
    --options '-c listen_addresses= -c unix_socket_directories=/tmp' start >&2
  LOGIN=${rest%%:*} LOGIN_PASSWORD=$(sed 's/^[^:]*://; s/@.*//' <<<"$rest") \
    DATABASE=$(sed 's/^[^/]*.//; s/?.*//' <<<"$rest") \
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --host /tmp <<'SQL'
\getenv login LOGIN
\getenv password LOGIN_PASSWORD
\getenv database DATABASE
CREATE ROLE :"login" LOGIN PASSWORD :'password';
GRANT pg_read_all_stats TO :"login";
CREATE DATABASE :"database" OWNER :"login" ENCODING 'UTF8' TEMPLATE template0;
SQL
  pg_ctl --pgdata "$home/new" --wait --silent --mode fast stop >&2
  touch "$fresh"
  mv "$home/new" "$data"
  sync "$home"
}

# is_copy: whether the other server has the same database as this one, each at its own time
is_copy() {
  local theirs
  theirs=$(ask "$peer" 'SELECT system_identifier FROM pg_control_system()') || return 1
  [[ $(pg_controldata "$data") =~ 'system identifier:'\ +"$theirs"$'\n' ]]
}

# clone: a copy of the other server, in the place of whatever is here
clone() {
  say "copies $peer"
  rm -rf "$home/new"
  pg_basebackup --pgdata "$home/new" --host "$peer" --wal-method stream --checkpoint fast >&2
  touch "$home/new/standby.signal"
  rm -rf "$data"
  mv "$home/new" "$data"
  rm -f "$unfinished" "$alone" "$fresh"
  sync "$home"
}

# rejoin: undo what only this server has, which nobody was told is stored; then it is a standby
rejoin() {
  say "is no primary any more: $peer is. What only this server has is undone"
  touch "$unfinished"
  rm -f "$alone" "$fresh"
  if pg_rewind --target-pgdata "$data" --source-server "host=$peer dbname=postgres" >&2; then
    touch "$data/standby.signal"
    rm -f "$unfinished"
    sync "$home"
  else
    clone
  fi
}

# serve primary|standby: run the server to its end
serve() {
  local server watcher status=0
  {
    echo '# postgres.sh writes this file at each start.'
    if [[ $1 == standby ]]; then
      # The password is in the server's environment.
      echo "primary_conninfo = 'host=$peer application_name=$name tcp_user_timeout=5000'"
    elif [[ ! -e $alone ]]; then
      echo "synchronous_standby_names = '\"$peer\"'"
    fi
  } >"$data/postgresql.auto.conf"
  say "starts as the $1"
  postgres -D "$data" -c config_file=/etc/appliance/postgresql.conf &
  server=$!
  # Sessions are ended; what they were told is stored is on disk.
  trap 'kill -INT "$server" || :' TERM INT
  watch "$server" &
  watcher=$!
  while kill -0 "$server" 2>/dev/null; do
    status=0
    wait "$server" || status=$?
  done
  kill "$watcher" 2>/dev/null || :
  exit "$status"
}

# watch SERVER: look after what this server is, as long as it runs
watch() {
  local mine theirs pause=1
  trap - TERM INT EXIT
  set +e
  while sleep "$pause"; do
    mine=$(look /tmp)
    if [[ $mine == standby ]]; then
      watch_standby "$(look "$peer")"
      if [[ -e $complete ]]; then pause=5; else pause=1; fi
    elif [[ $mine == primary* ]]; then
      theirs=$(look "$peer")
      if [[ $theirs == primary* && ${theirs:8:8} > ${mine:8:8} ]]; then
        say "$peer was promoted after this server, which stops"
        kill -INT "$1"
        return
      fi
      if [[ -e $alone || -e $fresh ]]; then pause=1 && watch_alone; else pause=5; fi
    fi
  done
}

# watch_standby PRIMARY: note whether this server has all that the primary has acknowledged
watch_standby() {
  local place
  if [[ $1 == *alone ]]; then
    rm -f "$complete"
  elif [[ $1 == *waits && ! -e $complete ]]; then
    place=${1#primary * }
    if [[ $(ask /tmp "SELECT pg_last_wal_receive_lsn() >= '${place% *}'" || :) == t ]]; then
      say 'has all that is acknowledged'
      touch "$complete"
    fi
  fi
}

# watch_alone: once the other server follows, acknowledge nothing that it does not have
watch_alone() {
  if [[ $(ask /tmp "SELECT count(*) FROM pg_stat_replication
    WHERE application_name = '$peer' AND state = 'streaming'" || :) == 1 ]]; then
    ask /tmp "ALTER SYSTEM SET synchronous_standby_names = '\"$peer\"'" >/dev/null || return 0
    ask /tmp 'SELECT pg_reload_conf()' >/dev/null || return 0
    rm -f "$alone" "$fresh"
    say "acknowledges nothing any more that $peer does not have"
  fi
}

# ended STATUS: try no more often than this what has failed, on a full disk for example
ended() {
  if (($1 != 0 && $1 != 143)); then
    trap 'exit 143' TERM INT
    say "ended with status $1"
    sleep 10
  fi
}

# start: find out what this server is, and be it
start() {
  local theirs tries=0
  trap 'exit 143' TERM INT
  trap 'ended $?' EXIT
  rm -f "$complete"
  if [[ -e $data/standby.signal && ! -e $unfinished ]]; then
    rm -f "$alone"
    serve standby
  fi
  for ((tries = 0; ; tries++)); do
    theirs=$(look "$peer")
    if [[ ! -e $data/PG_VERSION || -e $unfinished ]]; then
      if [[ $theirs == primary* ]]; then
        clone
        serve standby
      elif [[ ! $theirs && ${FIRST-} == yes && ! -e $unfinished && $tries -ge 4 ]]; then
        make
        serve primary
      fi
    elif [[ $theirs == primary* ]]; then
      if is_copy; then
        rejoin
        serve standby
      fi
    elif [[ $theirs == standby || -e $alone || -e $fresh ]]; then
      serve primary
    fi
    if ((tries % 30 == 1)); then
      if [[ $theirs == primary* ]]; then
        say "waits: $peer is the primary of another database. Remove the volume of the server whose" \
          'messages are not wanted'
      elif [[ $theirs ]]; then
        say "waits: it has no messages, and $peer is a standby. Promote that one:" \
          "docker compose exec $peer bash /etc/appliance/postgres.sh promote"
      else
        say "waits for $peer, which may have been promoted ($(tail -n 1 "$error"))." \
          "Only if that one is lost:" \
          "docker compose exec $name bash /etc/appliance/postgres.sh promote"
      fi
    fi
    sleep 1
  done
}

# promote [anyway]: store without the other server, which must have stopped
promote() {
  local mine
  if [[ $(look "$peer") == primary* ]]; then
    fail "refuses: $peer is the primary. Stop it first: docker compose stop $peer"
  fi
  mine=$(look /tmp)
  if [[ $mine == standby ]]; then
    if [[ ! -e $complete && ${1-} != anyway ]]; then
      fail "refuses: since its start it never had all that $peer has acknowledged. Start that one;" \
        'or, where it is lost with its disk, promote this one all the same: promote anyway'
    fi
    touch "$alone"
    [[ $(PATIENCE=90 ask /tmp 'SELECT pg_promote(true, 60)') == t ]] \
      || fail "is not promoted: see its log"
    rm -f "$complete"
    # Only behind a checkpoint the other server sees what it lacks.
    PATIENCE=90 ask /tmp 'CHECKPOINT'
  elif [[ $mine == primary* ]]; then
    touch "$alone"
    ask /tmp "ALTER SYSTEM SET synchronous_standby_names = ''"
    ask /tmp 'SELECT pg_reload_conf()' >/dev/null
  elif [[ -e $data/PG_VERSION ]]; then
    touch "$alone"
  else
    fail 'refuses: it has no messages'
  fi
  say "stores without $peer from now on, until that one follows it"
}

case ${1-} in
  start | promote) "$@" ;;
  *) fail 'knows these: start, promote' ;;
esac

/* The promise of the appliance as a small state machine, for Spin. README.md says how to run it.
 *
 * One client sends MESSAGES messages of one topic, one after the other's answer. The publisher sends
 * each to the broker, and again after a lost connection. The broker has it in memory first and on
 * disk later, and confirms when it is on disk. The worker takes what is delivered, commits it, and
 * acknowledges. The broker, the API process and the workers can end at any step, CRASHES times in
 * all; a commit can fail. What was answered must be one row in the end, in the order of the answers;
 * and the ledger must call a message missing only if there is no row of it.
 *
 * Two mistakes can be planted, and must be found:
 *   -DACK_FIRST       the worker acknowledges before it commits
 *   -DACCEPT_AT_ONCE  messages are sent to a new queue before its name is on disk
 */

#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef CRASHES
#define CRASHES 3
#endif
/* Copies that can be in the queue at once: each message, and those that were sent again. */
#define PLACES 5
#define NOTHING 0

/* --- the client: what it was answered */
byte sending = 1;            /* the message that waits for its answer; MESSAGES + 1: all are through */
bool answered[MESSAGES + 1];
bool given_up[MESSAGES + 1]; /* answered with "it may be kept or not": nothing is promised */

/* --- the API process and its connection */
bool api_is_up = true;
bool connected = false;
bool sent = false;           /* the message is on its way, or in the queue, unconfirmed */
byte settled = 0;            /* of the ledger: each number up to it is confirmed or given up */

/* --- the broker */
bool broker_is_up = true;
bool queue_exists = false;
bool name_is_on_disk = false;
bool waited = false;         /* the publisher has waited until the queue is safe */
byte queue[PLACES];          /* in order; NOTHING from `length` on */
byte carried[PLACES];        /* `settled` as each envelope carries it */
byte length = 0;
byte on_disk = 0;            /* the first so many of them are on disk */
bool to_confirm = false;     /* the last message is on disk, and its confirm is under way */

/* --- the worker that is active */
byte taken = NOTHING;        /* delivered, and not acknowledged: always the first of the queue */
byte taken_carried = 0;
bool committed = false;
bool acknowledged = false;

/* --- the store */
byte rows[MESSAGES + 1];     /* rows of each message */
byte last_row = NOTHING;
bool out_of_order = false;
bool stored[MESSAGES + 1];
bool wrongly_missing = false;

byte crashes = 0;
byte i;

inline drop_queue() {
  queue_exists = false; name_is_on_disk = false;
  i = 0;
  do
  :: i < PLACES -> queue[i] = NOTHING; carried[i] = 0; i++
  :: else -> break
  od;
  i = 0;
  length = 0; on_disk = 0
}

inline forget_delivery() {
  taken = NOTHING; taken_carried = 0; committed = false; acknowledged = false
}

/* The first of the queue goes; the others move up. */
inline remove_first() {
  i = 0;
  do
  :: i + 1 < PLACES -> queue[i] = queue[i + 1]; carried[i] = carried[i + 1]; i++
  :: else -> break
  od;
  queue[PLACES - 1] = NOTHING; carried[PLACES - 1] = 0;
  i = 0;
  length--; on_disk--
}

/* What is not on disk yet: a crash keeps some of it, perhaps all, from the front on. */
inline lose_what_is_in_memory() {
  do
  :: length > on_disk -> length--; queue[length] = NOTHING; carried[length] = 0
  :: break
  od;
  on_disk = length
}

inline lose_connection() {
  connected = false; waited = false; sent = false; to_confirm = false
}

/* A row, unless there is one; and the ledger entry that came with it. */
inline commit() {
  if
  :: !stored[taken] ->
       rows[taken]++;
       stored[taken] = true;
       if
       :: taken < last_row && answered[taken] -> out_of_order = true
       :: else
       fi;
       last_row = taken
  :: else
  fi;
  i = 1;
  do
  :: i <= taken_carried ->
       if
       :: !stored[i] && !given_up[i] -> wrongly_missing = true
       :: else
       fi;
       i++
  :: else -> break
  od;
  i = 0;
  committed = true
}

active proctype publisher() {
end:
  do
  :: atomic { sending <= MESSAGES && !api_is_up ->
       /* Its clients have no answer; the next process has another source in the ledger. */
       given_up[sending] = true; sending++; api_is_up = true; settled = 0 }
  :: atomic { api_is_up && broker_is_up && !connected -> connected = true;
       if
       :: !queue_exists -> queue_exists = true; name_is_on_disk = false
       :: else
       fi }
#ifdef ACCEPT_AT_ONCE
  :: atomic { connected && !waited -> waited = true }
#else
  :: atomic { connected && !waited && name_is_on_disk -> waited = true }
#endif
  :: atomic { waited && sending <= MESSAGES && !sent && length < PLACES ->
       queue[length] = sending; carried[length] = settled; length++; sent = true }
  :: atomic { to_confirm -> to_confirm = false; answered[sending] = true;
       settled = sending; sending++; sent = false }
  :: atomic { sending <= MESSAGES && api_is_up && !to_confirm ->
       /* Past its deadline: 503. It is not sent again. */
       given_up[sending] = true; settled = sending; sending++; sent = false }
  od
}

active proctype broker() {
end:
  do
  :: atomic { broker_is_up && queue_exists && !name_is_on_disk -> name_is_on_disk = true }
  :: atomic { broker_is_up && on_disk < length -> on_disk++;
       if
       :: connected && sent && queue[on_disk - 1] == sending && on_disk == length ->
            to_confirm = true
       :: else
       fi }
  :: atomic { broker_is_up && taken == NOTHING && on_disk > 0 ->
       taken = queue[0]; taken_carried = carried[0] }
  :: atomic { broker_is_up && acknowledged -> remove_first(); forget_delivery() }
  :: atomic { !broker_is_up -> broker_is_up = true }
  od
}

active proctype worker() {
end:
  do
#ifdef ACK_FIRST
  :: atomic { taken != NOTHING && !acknowledged -> acknowledged = true }
  :: atomic { taken != NOTHING && !committed -> commit() }
#else
  :: atomic { taken != NOTHING && !committed -> commit() }
  :: atomic { committed && !acknowledged -> acknowledged = true }
#endif
  od
}

active proctype faults() {
  do
  :: atomic { crashes < CRASHES && broker_is_up -> crashes++;
       broker_is_up = false; lose_connection(); forget_delivery();
       if
       :: !name_is_on_disk -> drop_queue()
       :: else -> lose_what_is_in_memory()
       fi }
  :: atomic { crashes < CRASHES && api_is_up -> crashes++; api_is_up = false; lose_connection() }
  :: atomic { crashes < CRASHES && connected -> crashes++; lose_connection() }
  :: atomic { crashes < CRASHES && taken != NOTHING -> crashes++;
       /* The worker is killed, or its connection breaks: the next one gets the same again, unless
          the acknowledgement was on its way. */
       if
       :: acknowledged && broker_is_up -> remove_first(); forget_delivery()
       :: forget_delivery()
       fi }
  :: atomic { true -> break }
  od
}

/* When nothing more can happen, nobody waits, and each answer is kept. */
active proctype end_of_all() {
  atomic {
    timeout ->
    assert(sending == MESSAGES + 1);
    assert(length == 0);
    i = 1;
    do
    :: i <= MESSAGES ->
         assert(!answered[i] || rows[i] == 1);  /* one row, never none */
         assert(rows[i] <= 1);                  /* never two */
         i++
    :: else -> break
    od;
    assert(!out_of_order);
    assert(!wrongly_missing)
  }
}

"""A query of somebody's own in PostgreSQL: it finds numbers of messages, and does nothing else."""

import pytest
from own_sql import by_sql
from store_contents import many, one

from appliance.errors import InputError
from appliance.model.topics import CANARY_TOPIC
from appliance.store import own_queries
from appliance.store.own_queries import SECRET_TABLES
from appliance.store.postgresql.own_query import seqs_found


@pytest.fixture
def engine():
    return "postgresql"


@pytest.fixture
def ask(config, writer):
    writer.store([many([b'{"n": %d}' % n for n in range(9)]), one(b"x", CANARY_TOPIC)])

    def ask(sql, seconds=10.0):
        return list(seqs_found(config.database_url, sql, seconds))

    return ask


def test_a_query_finds_messages_in_order_each_once(ask):
    assert ask("SELECT seq FROM messages ORDER BY seq DESC;") == list(range(1, 10))
    assert ask("VALUES (3), (2), (3), (10), (11), (-1)") == [2, 3]
    assert ask("WITH big AS (SELECT seq FROM messages WHERE appliance_value(body, '$.n') > '6') "
               "SELECT seq FROM big -- these") == [8, 9]  # fmt: skip
    assert ask("/* a % of all, ':x' and ? */ SELECT seq FROM messages WHERE body LIKE '%7%'") == [8]
    assert ask("SELECT 4") == [4]
    assert ask("SELECT seq FROM messages WHERE received_at < to_char(now() + interval '1 day', "
               "'YYYY-MM-DD') AND random() >= 0 AND position('3' in body) > 0") == [4]  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM messages", "begins with SELECT or WITH"),
        ("", "begins with SELECT or WITH"),
        ("WITH x AS (DELETE FROM messages RETURNING seq) SELECT seq FROM x", "WITH"),
        ("SELECT seq INTO t FROM messages", "INTO"),
        ("SELECT seq FROM messages; DROP TABLE messages", "multiple commands"),
        ("SELECT 1) UNION SELECT seq FROM (SELECT seq FROM messages", "syntax error"),
        ("SELECT seq, id FROM messages", "one column.*has 2"),
        ("SELECT id FROM messages", "whole numbers.*type text"),
        ("SELECT 1.5", "type numeric"),
        ("SELECT NULL::int", "found NULL"),
        ("SELECT seq FROM nowhere", 'relation "nowhere" does not exist'),
        ("SELECT octet_length(secret::text) FROM endpoint_secrets", "nothing of tokens"),
        ("SELECT (SELECT length(digest::text) FROM Tokens LIMIT 1)", "nothing of tokens"),
        ("SELECT seq FROM messages WHERE EXISTS (SELECT FROM public.sessions)", "sessions"),
        ("SELECT length(rolpassword) FROM pg_authid", "pg_authid"),
        ("SELECT length(query) FROM pg_stat_activity", "pg_stat_activity"),
        ("SELECT length(query_to_xml('SELECT 1', true, true, '')::text)", "query_to_xml"),
        ("SELECT length(table_to_xml('tokens', true, true, '')::text)", "table_to_xml"),
        ("SELECT length(pg_read_file('/etc/passwd'))", "pg_read_file"),
        ("SELECT length(current_setting('data_directory'))", "current_setting"),
        ("SELECT length(set_config('transaction_read_only', 'off', true))", "set_config"),
        ("SELECT 1 FROM pg_sleep(1)", "pg_sleep"),
        ("SELECT 1 WHERE pg_terminate_backend(1)", "pg_terminate_backend"),
        ("SELECT nextval('dead_letters_seq_seq')", "nextval"),
        ("SELECT seq FROM messages FOR UPDATE", "can only read|FOR UPDATE"),
        ("SELECT mine()", "mine"),
        ("SELECT seq FROM hidden", "tokens"),
        ("SELECT 1/0", "division by zero"),
        ("SELECT length('\udcff')", "Unicode"),
        ("SELECT " + "1 + " * 3000 + "1", "at most 10000 characters"),
    ],
)
def test_a_query_that_is_not_one_for_numbers_is_refused_in_words(ask, config, sql, words):
    by_sql(config, "CREATE FUNCTION mine() RETURNS bigint LANGUAGE sql AS "
                   "'SELECT count(*) FROM tokens'")  # fmt: skip
    by_sql(config, "CREATE VIEW hidden AS SELECT length(name) AS seq FROM tokens")
    with pytest.raises(InputError, match=rf"(?s)sql: .*({words})"):
        ask(sql)
    assert by_sql(config, "SELECT count(*) FROM messages") == [(10,)]


def test_a_query_reads_a_view_and_every_table_without_a_secret(ask, config):
    by_sql(config, "CREATE VIEW later AS SELECT seq FROM messages WHERE seq > 7")
    assert ask("SELECT seq FROM later") == [8, 9]
    for table in ("messages", "topics", "dead_letters", "replays"):
        assert ask(f"SELECT count(*) - count(*) FROM {table}") == []
    there = {name for (name,) in by_sql(config, "SELECT tablename FROM pg_tables "
             "WHERE schemaname = 'public'")}  # fmt: skip
    assert there >= SECRET_TABLES
    for table in SECRET_TABLES:
        with pytest.raises(InputError, match=table):
            ask(f"SELECT count(*) FROM {table}")


def test_a_query_without_an_end_is_ended(ask):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i # 1 FROM n) SELECT max(i) FROM n"
    with pytest.raises(InputError, match=r"sql: it took longer than .* and was ended"):
        ask(endless, 0.05)


def test_a_query_that_finds_too_many_is_refused(ask, monkeypatch):
    monkeypatch.setattr(own_queries, "MOST_FOUND", 3)
    with pytest.raises(InputError, match="more than 3 messages"):
        ask("SELECT seq FROM messages")

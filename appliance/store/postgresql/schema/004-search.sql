-- Reading by what is in a message: values of JSON, and words.

-- Whether a text is JSON: PostgreSQL 15 can't ask.
CREATE FUNCTION appliance_is_json(words text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    PERFORM words::json;
    RETURN words IS NOT NULL;
EXCEPTION WHEN others THEN
    RETURN false;
END $$;

-- The value at a path of JSON; NULL where there is none, or no JSON.
CREATE FUNCTION appliance_value(words text, path text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF words IS NULL OR strpos('{[', left(ltrim(words, E' \t\n\r'), 1)) = 0 THEN
        RETURN NULL;
    END IF;
    RETURN jsonb_path_query_first(words::jsonb, path::jsonpath, '{}', true);
EXCEPTION WHEN others THEN
    RETURN NULL;
END $$;

-- The same as an index of values has it: short, and the same for 42 and 42.0.
CREATE FUNCTION appliance_key(words text, path text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE jsonb_typeof(value)
        WHEN 'string' THEN left('s' || (value #>> '{}'), 200)
        WHEN 'number' THEN left('n' || trim_scale((value #>> '{}')::numeric), 200)
    END FROM (SELECT appliance_value(words, path) AS value OFFSET 0) AS found;
END;

-- The full-text index, which the janitor fills: storing a message costs nothing for it.
CREATE TABLE search_words (
    seq bigint PRIMARY KEY,                     -- of the message
    words tsvector NOT NULL                     -- its words, folded; its topic after a slash
);
CREATE INDEX search_words_gin ON search_words USING gin (words);

CREATE TABLE search_progress (                  -- no row: nothing is indexed
    one smallint PRIMARY KEY CHECK (one = 1),
    version smallint NOT NULL,                  -- the form of the words
    low bigint NOT NULL,                        -- messages from this seq on are indexed
    high bigint NOT NULL                        -- up to this one
);

CREATE TABLE search_changes (                   -- messages to be indexed anew
    seq bigint PRIMARY KEY
);

-- What is deleted is gone from the index too; what is changed is searched as it is until the
-- janitor has indexed it anew.
CREATE FUNCTION appliance_search_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM search_words USING gone WHERE search_words.seq = gone.seq;
    RETURN NULL;
END $$;
CREATE TRIGGER appliance_search_deleted AFTER DELETE ON messages
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION appliance_search_deleted();

CREATE FUNCTION appliance_search_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- First the change: the janitor, which may be at it, is waited for with no word held.
    INSERT INTO search_changes VALUES (new.seq) ON CONFLICT DO NOTHING;
    DELETE FROM search_words WHERE seq = old.seq;
    RETURN NULL;
END $$;
CREATE TRIGGER appliance_search_updated AFTER UPDATE OF seq, topic, body, body_bytes ON messages
    FOR EACH ROW EXECUTE FUNCTION appliance_search_updated();

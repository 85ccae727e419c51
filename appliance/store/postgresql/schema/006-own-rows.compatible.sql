-- A row that a user inserts without a `seq` gets the next one, as in SQLite. The row of shards is
-- locked until that transaction ends: so its rows are in the order of the commits, as all others.

-- The setting has the places that this transaction has taken: the next one, the last one, and how
-- many it took in all. It takes twice as many each time, for every update of one row in one
-- transaction takes longer than the one before. Places that are left over stay empty. Rows that
-- came with a `seq` of their own are stepped over, but not those from 2**53 on, which JSON's readers
-- can't tell apart.
CREATE FUNCTION appliance_next_seq() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    places bigint[] := nullif(current_setting('appliance.places', true), '')::bigint[];
    more bigint;
BEGIN
    IF places IS NULL OR places[1] > places[2] THEN
        more := coalesce(places[3], 1);
        UPDATE shards
            SET last_seq = more + greatest(
                last_seq, (SELECT max(seq) FROM messages WHERE seq < 9007199254740992)
            )
            WHERE shard = 0
            RETURNING ARRAY[last_seq - more + 1, last_seq, coalesce(places[3], 0) + more]
            INTO STRICT places;
    END IF;
    PERFORM set_config(
        'appliance.places', ARRAY[places[1] + 1, places[2], places[3]]::text, true
    );
    RETURN places[1];
END $$;

ALTER TABLE messages ALTER COLUMN seq SET DEFAULT appliance_next_seq();

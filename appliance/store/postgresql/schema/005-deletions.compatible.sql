-- Deletions are counted once for each statement, and no more once for each row.

CREATE OR REPLACE FUNCTION appliance_message_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE topics SET
        messages = greatest(0, topics.messages - sums.messages),
        bytes = greatest(0, topics.bytes - sums.bytes)
    FROM (
        SELECT topic, count(*) AS messages,
            sum(coalesce(octet_length(body_bytes), octet_length(body))) AS bytes
        FROM deleted GROUP BY topic
    ) AS sums
    WHERE topics.topic = sums.topic;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION appliance_leased_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM leases JOIN deleted ON deleted.seq = leases.seq) THEN
        -- After who hands out now (`alone="leases"`): it locks leases first, subscriptions then.
        PERFORM pg_advisory_xact_lock(x'6170706d'::int, hashtext('leases'));
        WITH ended AS (
            DELETE FROM leases USING deleted WHERE leases.seq = deleted.seq
            RETURNING leases.subscription
        )
        UPDATE subscriptions SET gone = subscriptions.gone + sums.leases
        FROM (SELECT subscription, count(*) AS leases FROM ended GROUP BY subscription) AS sums
        WHERE subscriptions.number = sums.subscription;
    END IF;
    RETURN NULL;
END $$;

-- Replaced, which no reader waits for. A program that knows them for each row counts as before.
CREATE OR REPLACE TRIGGER appliance_message_deleted AFTER DELETE ON messages
    REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION appliance_message_deleted();
CREATE OR REPLACE TRIGGER appliance_leased_deleted AFTER DELETE ON messages
    REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT EXECUTE FUNCTION appliance_leased_deleted();

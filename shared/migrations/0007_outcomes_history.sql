-- Whose an event was, and the indexes that people's questions need. Under load: whoever writes holds the table for
-- milliseconds, so this does not stand in a queue that others wait behind.
SET LOCAL lock_timeout = '500ms';

ALTER TABLE outcomes ADD COLUMN tenant text COLLATE "C";

-- What was recorded is not changed any more. Rows that came while there was no partition for them lie in the default one,
-- and the keeper of the partitions moves them: that says so, for its transaction.
CREATE FUNCTION weir_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME LIKE '%\_default' AND current_setting('weir.keeper', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'object_not_in_prerequisite_state';
END $$;

-- Partitions have the row trigger of their table. That of TRUNCATE each needs of its own.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON outcomes FOR EACH ROW EXECUTE FUNCTION weir_append_only();
CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON outcomes EXECUTE FUNCTION weir_append_only();
DO $$
DECLARE part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'outcomes'::regclass LOOP
        EXECUTE format('CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON %s EXECUTE FUNCTION weir_append_only()', part);
    END LOOP;
END $$;

-- For new partitions only; the keeper of the partitions makes those of the old ones, without holding anybody up. The first
-- column is an expression that nobody asks for but history: the look-up of the inbox must never be answered by these.
CREATE INDEX outcomes_by_service ON ONLY outcomes ((service || ' ' || state), finished_at, event_id);
CREATE INDEX outcomes_by_tenant ON ONLY outcomes ((tenant || ' ' || service || ' ' || state), finished_at, event_id)
    WHERE tenant IS NOT NULL;

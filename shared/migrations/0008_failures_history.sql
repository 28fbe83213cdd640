-- The same for failed attempts, in a transaction of its own: holding one table while waiting for the other would be a
-- deadlock with whoever writes.
SET LOCAL lock_timeout = '500ms';

ALTER TABLE failures ADD COLUMN tenant text COLLATE "C";

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON failures FOR EACH ROW EXECUTE FUNCTION weir_append_only();
CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON failures EXECUTE FUNCTION weir_append_only();
DO $$
DECLARE part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'failures'::regclass LOOP
        EXECUTE format('CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON %s EXECUTE FUNCTION weir_append_only()', part);
    END LOOP;
END $$;

CREATE INDEX failures_by_service ON ONLY failures ((service || ' failed'), at, event_id);
CREATE INDEX failures_by_tenant ON ONLY failures ((tenant || ' ' || service || ' failed'), at, event_id)
    WHERE tenant IS NOT NULL;

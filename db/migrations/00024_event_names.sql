-- +goose Up
-- An event's name says when it was, or of which session it is, before its hash
-- (docs/adr/0046). Those that are here keep their names. Here stands how far
-- in time they go, where there are any: an event that is sent again is looked
-- for under the name that it had, too. Programs from before this must not run
-- any more, as with 00017: they know no event by its new name.
CREATE TABLE hashed_events (
    occurred_until timestamptz NOT NULL -- of those that have no id of their source's; the epoch: none
);
INSERT INTO hashed_events
SELECT coalesce(max(occurred_at) FILTER (WHERE source_event_id IS NULL), 'epoch') FROM agent_events HAVING count(*) > 0;

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;

-- +goose Up
-- What followers are told costs less to write, to read and to send (docs/adr/0048).

-- A row has its jobs' ids in one text, and a list of one element is for all of
-- them. One row tells that brief jobs began and were completed. In such rows
-- job_ids is what a relay from before this cannot read: it leaves them and what
-- is behind them to the next one, rather than tell a part.
ALTER TABLE job_feed
    ADD COLUMN events integer,          -- that it tells; null: one for each of job_ids
    ADD COLUMN ids text,                -- of the jobs, with commas between; null: job_ids
    ADD COLUMN began_ats timestamptz[], -- not null: before what it tells of a job it tells that it began then
    ALTER COLUMN job_ids SET DEFAULT '{NULL}',
    ALTER COLUMN next_ats SET DEFAULT '{}',
    ALTER COLUMN reasons SET DEFAULT '{}';
ALTER TABLE job_feed ALTER ids SET STORAGE EXTERNAL, ALTER began_ats SET STORAGE EXTERNAL;

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;

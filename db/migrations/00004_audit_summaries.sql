-- +goose Up
-- The audit is read from the log together with the history of jobs and the
-- observations (docs/adr/0011), newest first by time. What those two tell is
-- not written into the log any more, and what an older program wrote there
-- would be told twice.
CREATE INDEX ON observation_generation_job_events (project_id, event_type, at);
CREATE INDEX ON audit_log (team_id, project_id, created_at);
DROP INDEX audit_log_team_id_project_id_id_idx;
DELETE FROM audit_log WHERE action = 'observation.created' AND job_id IS NOT NULL;
UPDATE audit_log SET action = 'observation.generated' WHERE action = 'generation_job.completed';

-- A key that was rotated is revoked, and what it asked for goes on.
ALTER TABLE api_keys ADD COLUMN replaced_by text;

-- A session that goes on after its end is summarized again (docs/adr/0012).
ALTER TABLE server_sessions
    ADD COLUMN summary_job_id text,                 -- the job last asked for
    ADD COLUMN summaries integer NOT NULL DEFAULT 0, -- how many were
    ADD COLUMN summary_of text,                     -- what there was to summarize then
    ADD COLUMN summarized integer NOT NULL DEFAULT 0; -- which of them wrote the summary there is
UPDATE server_sessions s SET summary_job_id = j.id, summaries = 1, summarized = CASE j.status WHEN 'completed' THEN 1 ELSE 0 END
FROM observation_generation_jobs j
WHERE j.source_type = 'session_summary' AND j.source_id = s.id AND j.team_id = s.team_id AND j.project_id = s.project_id;

-- So a session has several jobs of a kind. The id is a hash of what the work
-- is, and stays unique; obs check verifies the rest (I14).
ALTER TABLE observation_generation_jobs DROP CONSTRAINT observation_generation_jobs_team_id_project_id_source_type__key;

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;

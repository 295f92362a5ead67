-- +goose Up
-- The program cuts texts into lexemes now (internal/search): names and paths
-- by their parts, and a mark of the project, so that what one tenant says
-- often does not slow down another. It also costs half of what the column's
-- expression did, and Postgres a quarter. Rows that are there keep the words they had until their
-- project is reindexed; they get the mark here, which takes a while where they
-- are many.
ALTER TABLE observations ALTER COLUMN content_search DROP EXPRESSION;

-- +goose StatementBegin
-- FNV-1a of team, NUL and project, in base 36: search.Scope.
CREATE FUNCTION pg_temp.scope_mark(team text, project text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    h numeric := 14695981039346656037;
    b bytea := convert_to(team, 'UTF8') || '\x00'::bytea || convert_to(project, 'UTF8');
    low int;
    mark text := '';
BEGIN
    FOR i IN 0 .. length(b) - 1 LOOP
        low := (h % 256)::int;
        h := ((h - low + (low # get_byte(b, i))) * 1099511628211) % 18446744073709551616;
    END LOOP;
    LOOP
        mark := substr('0123456789abcdefghijklmnopqrstuvwxyz', (h % 36)::int + 1, 1) || mark;
        h := div(h, 36);
        EXIT WHEN h = 0;
    END LOOP;
    RETURN '@' || mark;
END $$;
-- +goose StatementEnd
UPDATE observations o SET content_search = strip(o.content_search) || ('''' || p.mark || ''' ''#' || lower(regexp_replace(o.kind, '[^[:alnum:]]', '', 'g')) || '''')::tsvector
FROM (SELECT id, team_id, pg_temp.scope_mark(team_id, id) AS mark FROM projects) p
WHERE o.project_id = p.id AND o.team_id = p.team_id;
ALTER TABLE observations ALTER COLUMN content_search SET DEFAULT '', ALTER COLUMN content_search SET NOT NULL;
ALTER TABLE observations DROP COLUMN search_extra;
-- The words beside the row, where a search that looks at many rows has them at
-- hand, and a note of the usual length in one piece.
ALTER TABLE observations ALTER COLUMN content_search SET STORAGE MAIN;
ALTER TABLE observations SET (toast_tuple_target = 4096);

-- The words of a project, for those who mistype one. Written beside the
-- observations, and never taken away while the project is there: a word too
-- many does no harm.
CREATE TABLE observation_words (
    team_id    text NOT NULL,
    project_id text NOT NULL,
    lexeme     text COLLATE "C" NOT NULL, -- what the index calls it
    word       text NOT NULL,             -- a form in which it was written
    PRIMARY KEY (project_id, team_id, lexeme),
    FOREIGN KEY (project_id, team_id) REFERENCES projects (id, team_id) ON DELETE CASCADE
);

-- +goose StatementBegin
-- Words that look like one, the likest first. None where pg_trgm is not
-- there: it is looked for at each call, so that it may come later.
CREATE FUNCTION similar_words(team text, project text, mistyped text, most integer)
RETURNS text[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF to_regprocedure('similarity(text,text)') IS NULL THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(
        SELECT w.word FROM observation_words w
        WHERE w.team_id = team AND w.project_id = project AND w.word % mistyped
        ORDER BY similarity(w.word, mistyped) DESC, w.word LIMIT most);
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
-- pg_trgm is part of Postgres' contrib, which is not everywhere, and not every
-- role may create it. Without it a search forgives no typing error, and all
-- else works (docs/operations.md says how to add it later).
DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX observation_words_like ON observation_words USING gin (word gin_trgm_ops);
EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported OR undefined_object THEN
    RAISE NOTICE 'no pg_trgm, searches forgive no typing errors: %', SQLERRM;
END $$;
-- +goose StatementEnd

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;

-- +goose Up
-- Words that look like one, the likest first. Which way to them is not left to
-- the planner, who knew nothing of the table and compared the word with all of
-- the project's: the few words of a project are read, without those that no
-- typing error turns into another (search.Nearest: two letters more or less,
-- nor both ends); of many, the index on their letters knows.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION similar_words(team text, project text, mistyped text, most integer)
RETURNS text[] LANGUAGE plpgsql STABLE AS $$
DECLARE
    few CONSTANT integer := 8000;
BEGIN
    IF to_regprocedure('similarity(text,text)') IS NULL THEN
        RETURN '{}';
    END IF;
    IF (SELECT count(*) FROM (
            SELECT FROM observation_words w WHERE w.team_id = team AND w.project_id = project LIMIT few) x) < few THEN
        RETURN ARRAY(
            SELECT w.word FROM observation_words w
            WHERE w.team_id = team AND w.project_id = project
              AND CASE WHEN octet_length(w.word) BETWEEN octet_length(mistyped) - 2 AND octet_length(mistyped) + 2
                        AND (left(w.word, 1) = left(mistyped, 1) OR right(w.word, 1) = right(mistyped, 1))
                       THEN w.word % mistyped END
            ORDER BY similarity(w.word, mistyped) DESC, w.word LIMIT most);
    END IF;
    RETURN ARRAY(
        SELECT w.word FROM observation_words w
        WHERE CASE WHEN w.team_id = team AND w.project_id = project THEN true END AND w.word % mistyped
        ORDER BY similarity(w.word, mistyped) DESC, w.word LIMIT most);
END $$;
-- +goose StatementEnd

-- +goose Down
-- Forward only: there is no way back that keeps the history.
SELECT 1;

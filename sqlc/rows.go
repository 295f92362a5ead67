package sqlc

import "context"

// LookAtJobsOnce is LookAtJobs with room for as many rows as there can be, and
// one list of where their columns go. What sqlc writes has such a list for each
// row, and copies the rows as there come more: half of what a look leaves to be
// collected.
func (q *Queries) LookAtJobsOnce(ctx context.Context, arg LookAtJobsParams) ([]LookAtJobsRow, error) {
	rows, err := q.db.Query(ctx, lookAtJobs, arg.Numbers, arg.Ids, arg.TeamIds, arg.ProjectIds, arg.JobTypes, arg.Asked)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []LookAtJobsRow
	var i LookAtJobsRow
	columns := []any{
		&i.Number, &i.SourceType, &i.SourceID, &i.Payload, &i.RequestID, &i.Priority,
		&i.MaxAttempts, &i.Version, &i.Attempts, &i.LastError, &i.CreatedAt, &i.BeganAt,
	}
	for rows.Next() {
		if err := rows.Scan(columns...); err != nil {
			return nil, err
		}
		if items == nil {
			items = make([]LookAtJobsRow, 0, len(arg.Ids))
		}
		items = append(items, i)
	}
	return items, rows.Err()
}

package db

// ReclaimInParts has each Reclaim read only so many pages of the job table.
func ReclaimInParts(s *Jobs, pages int64) { s.reclaims.part = pages }

// FastArrays is what each connection of Open gets.
var FastArrays = fastArrays

// TellAtOnce has each reading of the feed tell all that waits to be told.
func TellAtOnce(j *Jobs) *Jobs {
	j.untold.all = true
	return j
}

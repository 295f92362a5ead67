package db

import "time"

// ReclaimInParts has each Reclaim read only so many pages of the job table.
func ReclaimInParts(s *Jobs, pages int64) { s.reclaims.part = pages }

// FastArrays is what each connection of Open gets.
var FastArrays = fastArrays

// TellAtOnce has each reading of the feed tell all that waits to be told.
func TellAtOnce(j *Jobs) *Jobs {
	j.untold.all = true
	return j
}

// TellSoon has the next reading of the feed tell of the rows that were read,
// as it would half a second later.
func TellSoon(j *Jobs) {
	u := &j.untold
	u.mu.Lock()
	defer u.mu.Unlock()
	u.old.add(u.young)
	u.young, u.turned = span{}, time.Time{}
}

// LookAlways makes it look for who writes each time that it may.
func (s *Jobs) LookAlways() {
	s.floor.least, s.floor.writers.every, s.fed.writers.every = time.Nanosecond, time.Nanosecond, time.Nanosecond
}

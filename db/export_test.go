package db

import "time"

// ReclaimInParts has each Reclaim read only so many pages of the job table.
func ReclaimInParts(s *Jobs, pages int64) { s.reclaims.part = pages }

// FastArrays is what each connection of Open gets.
var FastArrays = fastArrays

// LookAlways makes it look for who writes each time that it may.
func (s *Jobs) LookAlways() {
	s.floor.least, s.floor.writers.every, s.fed.writers.every = time.Nanosecond, time.Nanosecond, time.Nanosecond
}

package boot

var (
	LookAt    = lookAt
	ParseStat = parseStat
)

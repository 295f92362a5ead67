package llm

// Types and concepts of observations.
const (
	typeDiscovery = "discovery"
	typeBugfix    = "bugfix"
	typeFeature   = "feature"
	typeRefactor  = "refactor"
	typeChange    = "change"
	typeDecision  = "decision"
	typeSecurity  = "security_note"

	howItWorks      = "how-it-works"
	problemSolution = "problem-solution"
	gotcha          = "gotcha"
	pattern         = "pattern"
	tradeOff        = "trade-off"
	whatChanged     = "what-changed"
	whyItExists     = "why-it-exists"
)

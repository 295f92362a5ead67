package observe

// What tests look at directly.
var (
	Strip         = strip
	StripDocument = stripDocument
	Storable      = storable
)

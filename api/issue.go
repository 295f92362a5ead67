package api

import (
	"fmt"
	"strings"

	"github.com/seed-245eaa15/obs/internal/observe"
)

// The issues that zod has, in its words.
func wrongType(expected, received string) observe.Issue {
	return observe.Issue{
		Code: observe.CodeType, Message: fmt.Sprintf("Invalid input: expected %s, received %s", expected, received),
		Facts: observe.Facts{Expected: expected},
	}
}

func wrongOption(values ...string) observe.Issue {
	return observe.Issue{
		Code: observe.CodeValue, Message: `Invalid option: expected one of "` + strings.Join(values, `"|"`) + `"`,
		Facts: observe.Facts{Values: values},
	}
}

// tooSmall and tooBig are bounds of a string, array or number. unit is what
// is counted, and empty for a number.
func tooSmall(origin string, low int64, unit string) observe.Issue {
	return observe.Issue{
		Code: observe.CodeTooSmall, Message: fmt.Sprintf("Too small: expected %s to %s >=%d%s", origin, bounded(unit), low, unit),
		Facts: observe.Facts{Origin: origin, Minimum: &low, Inclusive: true},
	}
}

func tooBig(origin string, high int64, unit string) observe.Issue {
	return observe.Issue{
		Code: observe.CodeTooBig, Message: fmt.Sprintf("Too big: expected %s to %s <=%d%s", origin, bounded(unit), high, unit),
		Facts: observe.Facts{Origin: origin, Maximum: &high, Inclusive: true},
	}
}

func bounded(unit string) string {
	if unit == "" {
		return "be"
	}
	return "have"
}

package outbox

// AppendEvent is for the fuzz test, which compares it with encoding/json.
var AppendEvent = appendEvent

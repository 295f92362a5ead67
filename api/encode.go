package api

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// The answers about events are written by hand: they are most of all answers,
// and hold documents that are known to be good. TestAnswersAreWrittenAsJSON
// compares them with encoding/json.

// An appender is an answer that writes itself.
type appender interface {
	appendJSON(b []byte) ([]byte, error)
}

func (r recordedBody) appendJSON(b []byte) ([]byte, error) {
	b = append(b, `{"event":`...)
	b = r.Event.append(b)
	switch job := r.GenerationJob.(type) {
	case nil:
	case briefJobBody:
		b = job.append(append(b, `,"generationJob":`...))
	default:
		text, err := encode(job)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"generationJob":`...), text[:len(text)-1]...)
	}
	if r.WaitTimedOut {
		b = append(b, `,"waitTimedOut":true`...)
	}
	return append(b, '}'), nil
}

func (r recordedBatchBody) appendJSON(b []byte) ([]byte, error) {
	b = append(b, `{"events":`...)
	if r.Events == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, '[')
		for i := range r.Events {
			if i > 0 {
				b = append(b, ',')
			}
			var err error
			if b, err = r.Events[i].appendJSON(b); err != nil {
				return nil, err
			}
		}
		b = append(b, ']')
	}
	if r.WaitTimedOut {
		b = append(b, `,"waitTimedOut":true`...)
	}
	return append(b, '}'), nil
}

func (e *eventBody) append(b []byte) []byte {
	b = appendString(append(b, `{"id":`...), e.ID)
	b = appendString(append(b, `,"projectId":`...), e.ProjectID)
	b = appendString(append(b, `,"teamId":`...), e.TeamID)
	b = appendStringOrNull(append(b, `,"serverSessionId":`...), e.ServerSessionID)
	b = appendString(append(b, `,"sourceAdapter":`...), e.SourceAdapter)
	b = appendStringOrNull(append(b, `,"sourceEventId":`...), e.SourceEventID)
	b = appendString(append(b, `,"eventType":`...), e.EventType)
	b = appendStringOrNull(append(b, `,"platformSource":`...), e.PlatformSource)
	b = appendDocument(append(b, `,"payload":`...), e.Payload)
	b = appendDocument(append(b, `,"metadata":`...), e.Metadata)
	b = strconv.AppendInt(append(b, `,"occurredAtEpoch":`...), e.OccurredEpoch, 10)
	b = strconv.AppendInt(append(b, `,"receivedAtEpoch":`...), e.ReceivedEpoch, 10)
	b = strconv.AppendInt(append(b, `,"createdAtEpoch":`...), e.CreatedEpoch, 10)
	return append(b, '}')
}

func (j *briefJobBody) append(b []byte) []byte {
	b = appendString(append(b, `{"id":`...), string(j.ID))
	b = appendString(append(b, `,"status":`...), string(j.Status))
	b = appendString(append(b, `,"bullmqJobId":`...), j.MessageID)
	b = appendString(append(b, `,"sourceType":`...), j.SourceType)
	b = appendString(append(b, `,"sourceId":`...), j.SourceID)
	b = appendString(append(b, `,"transport":`...), j.Transport)
	b = strconv.AppendInt(append(b, `,"createdAtEpoch":`...), j.CreatedEpoch, 10)
	b = strconv.AppendInt(append(b, `,"updatedAtEpoch":`...), j.UpdatedEpoch, 10)
	return append(b, '}')
}

func appendStringOrNull(b []byte, s *string) []byte {
	if s == nil {
		return append(b, "null"...)
	}
	return appendString(b, *s)
}

// appendString writes what encoding/json writes without escaping for HTML.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf || c == 0x7f {
			text, err := encode(s)
			if err != nil {
				return append(b, `""`...) // a string can be encoded
			}
			return append(b, text[:len(text)-1]...) // all but the line's end
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendDocument writes a document without its blanks.
func appendDocument(b []byte, doc json.RawMessage) []byte {
	if doc == nil {
		return append(b, "null"...)
	}
	begin := 0
	for at := 0; at < len(doc); at++ {
		switch doc[at] {
		case '"':
			at = skipString(doc, at) - 1
		case ' ', '\t', '\r', '\n':
			b = append(b, doc[begin:at]...)
			begin = at + 1
		}
	}
	return append(b, doc[begin:]...)
}

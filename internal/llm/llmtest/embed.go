package llmtest

import (
	"encoding/json"
	"hash/fnv"
	"net/http"
	"strings"
)

// Dimensions is how many Embed gives unless it is asked for fewer.
const Dimensions = 256

// Embed is no model of language. It counts the pieces of three letters of each
// word, by their hash: texts with the same words, or such as look alike, have
// vectors that are alike, and a synonym is a stranger.
func Embed(text string, dimensions int) []float32 {
	v := make([]float32, dimensions)
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return r < '0' || r > '9' && r < 'a' || r > 'z' }) {
		if len(word) < 3 {
			continue
		}
		word = "^" + word + "$"
		for i := range len(word) - 2 {
			h := fnv.New32a()
			_, _ = h.Write([]byte(word[i : i+3])) // it never fails
			v[h.Sum32()%uint32(dimensions)]++
		}
	}
	v[0]++ // a text of nothing has a direction as well
	return v
}

// vectors is the answer of the API for embeddings: a token for each four bytes.
func (q Question) vectors(edit func(all []map[string]any) []map[string]any) []byte {
	dimensions := Dimensions
	if q.Dimensions > 0 {
		dimensions = q.Dimensions
	}
	all, tokens := []map[string]any{}, 0
	for i, text := range q.Input {
		all = append(all, map[string]any{"object": "embedding", "index": i, "embedding": Embed(text, dimensions)})
		tokens += (len(text) + 3) / 4
	}
	b, err := json.Marshal(map[string]any{
		"object": "list", "data": edit(all), "model": q.Model, "usage": map[string]int{"prompt_tokens": tokens, "total_tokens": tokens},
	})
	if err != nil {
		panic(err)
	}
	return b
}

// Edited answers for embeddings with what edit makes of the list.
func Edited(edit func(all []map[string]any) []map[string]any) Answer {
	return func(w http.ResponseWriter, _ *http.Request, q Question) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(q.vectors(edit)) // who left does not read it
	}
}

// TooLong refuses texts of more bytes, as a model with a small window does.
func TooLong(most int) Answer {
	return func(w http.ResponseWriter, r *http.Request, q Question) {
		for _, text := range q.Input {
			if len(text) > most {
				Status(http.StatusBadRequest, "context_length_exceeded")(w, r, q)
				return
			}
		}
		Fine(w, r, q)
	}
}

package openaitest

import "slices"

// The faults that a request can meet. Those of the first group are answers
// with an error, of the second answers that are no translation, of the third
// ways in which the connection fails.
const (
	Error500          = "500"
	Error502          = "502"      // an HTML page of the edge
	Error503          = "503-html" // an HTML page of the edge
	Error504          = "504"      // an HTML page of the edge
	RateLimit         = "429"      // says when to come back
	RateLimitBare     = "429-bare" // does not
	InsufficientQuota = "insufficient_quota"
	Error401          = "401"
	Error404          = "404"
	ContextLength     = "context_length"
	RefusedParameter  = "refused-parameter" // 400 that names a parameter of the call, as long as one can be left out
	Moderated         = "moderated"         // 400: the text is what was not taken
	NoBalance         = "no-balance"        // 402
	ErrorIn200        = "error-in-200"      // 200 with an error that has a number
	PackedError       = "packed-error"      // 500 in gzip, which nobody asked for

	Empty         = "empty"          // content ""
	Refusal       = "refusal"        // content null, refusal set
	Thoughts      = "thoughts"       // the cap was spent on thoughts: content "", finish_reason length
	Length        = "length"         // cut, finish_reason length
	ContentFilter = "content_filter" // cut, finish_reason content_filter
	Truncated     = "truncated"      // half of the JSON, framed as if it were all; a stream ends in mid event
	Garbage       = "garbage"        // 200, application/json, no JSON
	StreamError   = "stream-error"   // 200, then {"error": …}; in a stream after some deltas
	Comments      = "comments"       // the right answer; a stream of it is full of comments and blank lines

	ResetBefore = "reset-before" // a reset before the body was read
	ResetAfter  = "reset-after"  // a reset after it was read
	Cut         = "cut"          // the connection closes in mid answer
	Hang        = "hang"         // no answer until the client leaves
	Stall       = "stall"        // half an answer, then none until the client leaves
	Drip        = "drip"         // the right answer, a byte at a time
	IdleClose   = "idle-close"   // an orderly close at the moment a used connection is used again; waits for one
)

// The bad habits of models: the answer is a 200 and wrong.
const (
	ChatterQuotes      = "chatter-quotes"       // in quotation marks
	ChatterPrefix      = "chatter-prefix"       // "Here is the translation:"
	ChatterRefusal     = "chatter-refusal"      // "I'm sorry, but …" as the content
	ChatterEcho        = "chatter-echo"         // the source text
	ChatterThink       = "chatter-think"        // <think>…</think> first
	ChatterFence       = "chatter-fence"        // in a code fence
	ChatterNote        = "chatter-note"         // a note to the user at the end
	ChatterWrongScript = "chatter-wrong-script" // in another alphabet
	ChatterRepetition  = "chatter-repetition"   // again and again
	ChatterPlaceholder = "chatter-placeholder"  // placeholders are lost
	ChatterDrop        = "chatter-drop"         // one placeholder is
	ChatterTranslate   = "chatter-translate"    // one is translated, or in another case
	ChatterDouble      = "chatter-double"       // one is there twice
	ChatterReorder     = "chatter-reorder"      // they have changed places
	ChatterSpace       = "chatter-space"        // one has a blank in it
	ChatterBoth        = "chatter-both"         // the source text before its translation
	ChatterJSON        = "chatter-json"         // as a string in JSON
	ChatterToken       = "chatter-token"        // with a control token of a template behind it
)

// Kinds returns every kind of fault, bad habits included, sorted.
func Kinds() []string {
	kinds := []string{
		Error500, Error502, Error503, Error504, RateLimit, RateLimitBare, InsufficientQuota,
		Error401, Error404, ContextLength, RefusedParameter, Moderated, NoBalance, ErrorIn200, PackedError,
		Empty, Thoughts, Refusal, Length, ContentFilter, Truncated, Garbage, StreamError, Comments,
		ResetBefore, ResetAfter, Cut, Hang, Stall, Drip, IdleClose,
	}
	return slices.Sorted(slices.Values(append(kinds, ChatterKinds()...)))
}

// ChatterKinds returns the bad habits alone.
func ChatterKinds() []string {
	return []string{
		ChatterQuotes, ChatterPrefix, ChatterRefusal, ChatterEcho, ChatterThink, ChatterFence,
		ChatterNote, ChatterWrongScript, ChatterRepetition, ChatterPlaceholder,
		ChatterDrop, ChatterTranslate, ChatterDouble, ChatterReorder, ChatterSpace,
		ChatterBoth, ChatterJSON, ChatterToken,
	}
}

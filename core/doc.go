// Package core is what the author of a stage, a gate or a provider imports. It
// says what travels through a chain (Request, Result, Error, Trace), what a
// chain is made of (Translator, Stage, Gate, Hooks, Caller), and how a part
// is declared (Kind). It holds no policy, starts no goroutine and imports no
// other package of this module.
//
// # Words
//
//	request     one text to translate, with its languages and options; never changed
//	result      the translation of one request; shared, never changed
//	translator  anything that turns a request into a result; the rest of a chain is one
//	stage       one item of the chain: cache, ratelimit, queue, provider, postprocess
//	gate        a stage that is a condition for an upstream call to start
//	provider    an entry of `providers:` that translates; the stage `provider` calls them
//	attempt     one call of one provider: the first, a retry, a hedge, a fallback
//	flight      one miss on its way, shared by all requests that want the same answer
//	turn        what an attempt takes from all gates together before it starts
//	lane        final, partial or bulk: what a turn is given to first
//	generation  one loaded configuration with everything that was built from it
//	door        an inbound protocol
//
// # Order
//
// The list in the file is the order. A request walks down to the stage
// `provider`, the answer walks back up. What stands after `provider` is linked
// round each attempt, the first listed innermost.
package core

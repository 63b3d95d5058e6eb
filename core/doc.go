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
//	chat        a chat completion that passes to a provider as it is, in place of a text
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
//
// A chat (Request.Chat) is a request like any other: it takes the same way, and so has
// its turn in the same line, charged to the same accounts, with the same retries,
// breakers and flights. A stage whose kind knows nothing of chats (Kind.Chats) is
// passed by, which linking decides; below the stage `provider` a chat has providers
// of its own to go to, all of them a Chatter.
//
// # Rooms
//
// Each folder with Go code, what it does, and what it may import of this module. A name
// stands for what is below it as well, unless that is named by itself.
//
//	core            what an author of a stage, a gate or a provider imports; nothing of ours
//	core/chain      links stages, gates and providers, and watches them
//	core/line       the one line in which attempts wait for their turn; no I/O
//	core/ledger     what was spent of an allowance in the time just past, and what a call may cost
//	core/pool       warm upstream connections
//	core/exchange   one bounded call of an upstream: framing, headers, what may be logged; engines that speak JSON
//	core/config     pipeline.yaml: loading, checking, explaining, the schema
//	core/fields     structs as keys, in the configuration and in plugins
//	core/lazy       regular expressions that are compiled when they are used first
//	core/schema     what a JSON Schema does not allow, and where
//	core/files      reads files that a configuration names, bounded; replaces files in one step; journals
//	core/engine     generations: plan, build, start, probe, swap, drain, close
//	core/reload     the file: following it, the verdict, undo
//	core/state      the folder that outlives the process, and the addresses of running gateways
//	core/text       what is known about texts and languages
//	core/text/glossary  terms that are to be translated in one way: read, found, checked
//	core/text/format  files and their texts: reading them, writing translations into their places
//	core/text/json  JSON by hand, where a call cannot wait for encoding/json
//	core/live       policy, memory, order and measures of a live session; the clock is given, no I/O
//	core/live/traffic  what clients of live sessions say: traces in files, and speech
//	core/usage      keys' limits and what they used: exact, durable
//	core/history    what was counted in the last hour
//	core/heap       when garbage is collected, in the gateway and in plugins of the Go SDK
//	core/shared     what the gateways of one group have in common, over Redis
//	core/trace      spans of requests and attempts, and their way to a collector
//	core/door       what doors share; a dialect a folder below it
//	core/coretest   the conformance suite for stages, gates and providers
//	stages          the built-in stages and providers, a folder each; no stage imports another
//	plugins         programs that serve a stage or a provider: host, SDKs, protocol, and two that are shipped
//	cmd/gateway     the program: commands, a file each, and the one place that knows every part
//	cmd/dragoman    its main
//	cmd/openai-sim  a simulated OpenAI
//	cmd/internal/speech  drives live sessions of a gateway and measures what is seen; speaks to the lab
//	cmd/internal    the lab: what measures the product and is no part of it
//	examples        stages and plugins to read, and the quick start
//
// The test beside this file holds this list and the imports against the tree.
package core

package core

import (
	"time"
	"unicode/utf8"
)

// A Request is one text to translate, with its languages and options. It is
// never changed once it has entered a chain and never pooled: a stage that
// wants another text makes a copy (r := *req) and passes that on. Any number of
// goroutines may read it.
type Request struct {
	// ID identifies the request in logs, upstream headers and answers.
	ID string
	// Text is what to translate: valid UTF-8 without NUL, not blank.
	Text string
	// Markup is what Text is written in; nil for a text in which tags are no more than
	// placeholders.
	Markup *Markup
	// Source is the language of Text; empty when the client did not say.
	Source Language
	// Target is the language wanted; never empty.
	Target Language

	// Context is what the text stands in, which is not translated: concluded pairs of
	// the same conversation, oldest first. One without a Target is text around it, of
	// which there is no translation.
	Context []Pair
	// Formality is how the reader is addressed.
	Formality Formality
	// Glossary is the name of the glossary that holds, empty for one without; its
	// GlossaryVersion changes with its content, and is empty for no glossary.
	Glossary, GlossaryVersion string
	// Terms are those of the glossary that occur in Text, each as it is written there
	// with the translation that is wanted, in the order in which they occur. Text and
	// GlossaryVersion decide what they are.
	Terms []Pair
	// Instructions are the client's wishes about style, in order.
	Instructions []string

	// Chat, when set, is what is asked for in place of a translation. Text and the
	// languages are empty then. See Chat.
	Chat *Chat

	// Client is who is billed: the name of an API key, or an address.
	Client string
	// Session is one live speaker or conversation, within Client.
	Session string
	// Segment is one utterance of Session; Revision is the version of its
	// text, rising.
	Segment  string
	Revision int64
	// Final says that this revision is the last one of its segment.
	Final bool
	// Lane decides which waiting request gets the next turn.
	Lane Lane
	// Since is when the request first asked, which is its seniority among those
	// of its session and lane; zero is now.
	Since time.Time

	// NoCache asks for a new answer: nothing is looked up or joined. What
	// comes back may still be stored.
	NoCache bool
	// Transient asks that the answer is kept for nobody: that of a text which may
	// still change. It is looked up, and shared with who wants it meanwhile.
	Transient bool
	// Relieve asks that the provider in use is left alone, since calls wait too long for
	// it: the answer is a stored one or a fallback's, or there is none. It is kept for
	// nobody, and shared with none but those who ask so too.
	Relieve bool
	// Only is the entry of `providers:` that is to answer, and no other, whatever the routes say:
	// for comparing them. It is one that the stage `provider` calls, and whoever sets it sets NoCache.
	Only string
	// Linger is how long upstream work goes on after the last caller has
	// left, so that a client that asks again finds the answer.
	Linger time.Duration

	// Attempt counts the calls made for this request before this one. The
	// stage `provider` sets it on the copy that it hands down; a provider gives
	// a later attempt more room.
	Attempt int
	// Account is what an attempt is charged to: that of the provider which it is
	// for. The stage `provider` sets it on the copy for which it takes a turn.
	Account string
	// Fallback says that this account is a fallback's: what was configured for
	// that of the provider in use does not bound it.
	Fallback bool
	// Backed says that another provider answers when this one cannot, as the
	// stage `provider` knows: one that is away for a moment says so at once
	// instead of waiting until it is back.
	Backed bool

	// OnDelta, when set, is called with pieces of the answer as they arrive:
	// from one goroutine at a time and never after Translate has returned. An
	// error from it ends the call. Deltas are a preview; the result is the
	// text.
	OnDelta func(text string) error

	// Flight, when set, is told of the turns that are taken for this request,
	// for it is one of several of which one makes a call. See Flight.
	Flight Flight

	// Batch, when set, is the place of this request among those of one call.
	Batch *Seat

	// Trace collects what happened to this request. A chain sets one when
	// there is none.
	Trace *Trace
}

// Characters is the length of what r asks for, in code points: of a chat, that of all it says.
func (r *Request) Characters() int {
	if r.Chat != nil {
		return r.Chat.Characters
	}
	return utf8.RuneCountInString(r.Text)
}

// A Chat is a chat completion that passes: a provider answers it as it was asked, and
// the answer is the client's as it came. It goes the way of every request, through
// the same line, gates, accounts and flights, and meets of the stages only those
// whose kind knows what a chat is (Kind.Chats). It goes to providers that are a Chatter.
//
// Result.Text is the completion, a JSON object. With Request.OnDelta the pieces are
// whole events of a stream, each a JSON object on a line of its own; when they
// came and Keep is not set, Result.Text may be empty. It is never changed.
type Chat struct {
	// Provider is the entry of `providers:` that is asked first, and Model the one
	// that is asked of it; empty for its own. Those that stand in for it are asked
	// for their own.
	Provider, Model string
	// Fields are what is asked, but for the model and whether it is to be a stream.
	Fields []ChatField
	// Key stands for all that decides the answer. Two chats with the same Key may
	// share one call.
	Key string
	// Keep says that whoever asks for the same later may have the same answer.
	Keep bool
	// JSON says that the answer is to be JSON.
	JSON bool
	// Tokens is about what it costs, prompt and answer.
	Tokens int
	// Characters are the code points of the texts of its messages.
	Characters int
}

// A ChatField is one parameter of a chat.
type ChatField struct {
	Name  string
	Value []byte // JSON
	// Set says that the operator wants it: it is sent also where only what is known
	// is sent.
	Set bool
}

// A ChatModel is one that answers chats. Fingerprint changes when its answers may.
type ChatModel struct{ Provider, Model, Fingerprint string }

// A Flight is what requests share that want the same answer. Each of them that
// has a place of its own asks for a turn, and the first that gets one makes the
// one call. While its Flight is told nothing, nothing is known of the call below.
type Flight interface {
	// Waits says that a turn is about to be asked for, and none is held. Who
	// asks the line says so.
	Waits()
	// Starts says that a turn was taken for this request. With an error another
	// one of the flight has a turn: this one goes back unused, and the error to
	// who asked. The line says so under its lock, so Starts does not block and
	// does not call into a line.
	Starts() error
}

// A Markup says that a text has tags and character references, and which of its elements
// are not to be translated. It is never changed.
type Markup struct {
	// XML says that it is XML, else HTML.
	XML bool
	// Ignore are names of elements whose content comes back as it is.
	Ignore []string
}

// A Pair is a text and its translation.
type Pair struct{ Source, Target string }

// Formality is how the reader is addressed in the translation.
type Formality string

const (
	FormalityDefault Formality = ""
	Formal           Formality = "formal"
	Informal         Formality = "informal"
)

// A Lane decides which waiting request gets the next turn. Lower goes first.
type Lane uint8

const (
	LaneFinal   Lane = iota // a text that will not change any more
	LanePartial             // a revision that may still change
	LaneBulk                // work nobody is waiting in front of
	Lanes                   // how many there are
)

func (l Lane) String() string {
	switch l {
	case LaneFinal:
		return "final"
	case LanePartial:
		return "partial"
	case LaneBulk:
		return "bulk"
	}
	return "unknown"
}

// A Result is the translation of one request. It may be shared by many
// requests and is never changed: a stage that wants another text makes a copy.
type Result struct {
	// Text is the translation.
	Text string
	// Source is the language that was detected; empty when nothing detected it.
	Source Language
	// Provider is the entry of `providers:` that answered; Model is the model
	// it says it used.
	Provider, Model string
	// Finish says why the answer ended, when the provider said so.
	Finish Finish
	// Flags say what is unusual about the answer, for example same_language.
	Flags []string
	// Usage is what this answer cost upstream: nothing when Cached.
	Usage Usage
	// Limits is what the upstream said of its limits in this answer; nil when it
	// said nothing, and when Cached.
	Limits *Limits
	// Cached says that no upstream call was made for this request.
	Cached bool
	// NoStore says that the answer must not be kept for others: a fallback's,
	// a flagged or a cut one.
	NoStore bool
}

// A Finish is why an answer ended.
type Finish string

const (
	FinishUnknown  Finish = ""
	FinishStop     Finish = "stop"           // it was complete
	FinishLength   Finish = "length"         // it was cut at the output cap; such a result is NoStore
	FinishFiltered Finish = "content_filter" // the provider withheld some of it; such a result is NoStore
)

// Flags that more than one part sets or reads.
const (
	FlagSameLanguage = "same_language" // both languages are the same: the text came back, without a call
	FlagFallback     = "fallback"      // a fallback answered
	FlagCut          = "cut"           // the answer ended at the output cap
	// FlagPlaceholderMoved says that an answer did not tell where each placeholder of the text
	// belongs: all are there, some where their neighbours stand.
	FlagPlaceholderMoved = "placeholder_moved"
	// FlagInstructionsIgnored says that the operator takes no instructions of clients, and
	// this one gave some.
	FlagInstructionsIgnored = "instructions_ignored"
	// FlagGlossary says that the text is a term of the glossary: its translation came
	// from there, without a call.
	FlagGlossary = "glossary"
	// FlagGlossaryMissed says that the translation lacks that of a term of the glossary.
	FlagGlossaryMissed = "glossary_missed"
)

// WithFlag returns a copy of r that carries one more flag.
func (r *Result) WithFlag(flag string) *Result {
	c := *r
	c.Flags = append(append(make([]string, 0, len(r.Flags)+1), r.Flags...), flag)
	return &c
}

// Usage counts what the provider bills: tokens, or characters.
type Usage struct {
	PromptTokens, CompletionTokens int
	// CachedTokens is the part of PromptTokens that the provider had cached.
	CachedTokens int
	// Characters are code points of the text, of a provider that bills those.
	Characters int
}

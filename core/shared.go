package core

import "context"

// Shared is what the gateways of one group have in common, over a store such as Redis:
// Env.Shared. It is safe for concurrent use.
//
// Nothing that a request needs depends on it. The store may be slow, gone, or empty at any
// time; who uses it has something to go on with, and says what that is.
type Shared interface {
	// Self names this process among those of the group. It is another at each start.
	Self() string
	// Machine names where this process runs, and is the same after a restart there.
	Machine() string
	// State is for what must stay until it expires: leases, pauses.
	State() Room
	// Answers is for what may be evicted at any time: answers.
	Answers() Room
	// Seal makes of a value what may lie in the store: encrypted, when the file says so, and
	// bound to its name. Open is the way back.
	Seal(name string, value []byte) []byte
	Open(name string, sealed []byte) ([]byte, error)
	// Name is a short name for key, which tells nothing of it to who does not know it.
	Name(key string) string
}

// A Room is one part of the store. Whatever it is asked is bounded in time, and when
// the store does not answer it says so at once, until it answers again.
type Room interface {
	// Ask is for what a request waits for: it takes 10 ms at the most, and no more than a
	// tenth of the time that ctx has left. While the store is away it fails at once.
	Ask(ctx context.Context, script *Script, key string, args ...string) ([]string, error)
	// Run is for what nobody waits for: it takes a quarter of a second at the most, and is
	// tried whatever is known of the store.
	Run(ctx context.Context, script *Script, key string, args ...string) ([]string, error)
	// Later runs script when there is time. What does not fit, and what cannot be done while
	// the store is away, is dropped and counted.
	Later(script *Script, key string, args ...string)
	// Hear calls each for what any gateway of the group publishes under topic, from now
	// until forget is called. Each is quick, and may miss some: a message is only a hint to
	// look sooner.
	Hear(topic string, each func(message string)) (forget func())
	// Up says whether the store answers.
	Up() bool
}

// A Script is what the store runs in one step, in Lua: KEYS[1] is the key, ARGV[1] the
// channel on which it may publish "topic message", and ARGV[2] and so on are the arguments.
// It returns a list of strings. Scripts are compared with ==, so they are pointers.
type Script struct{ Source string }

package provider

import "github.com/dragoman-mt/dragoman/core"

// Chats go to the provider that they name, and from there to those of `fallback` that
// take chats and are listed behind it: an operator who names a fallback for a chat
// does not expect it to come back to the provider that it stands in for. They share
// everything else with texts: turns, breakers, the budget of retries. They are not
// hedged, for a second call may cost as much as an hour of captions, and how long
// they take says nothing of how long a text does.

// linkChats links those that c calls for chats: each that takes them of the ones that
// translate, then those that are for chats alone.
func (c *foot) linkChats(below core.Below, link func(key, name string) (target, error)) error {
	all := append([]target{c.preferred}, c.fallbacks...)
	translating := len(all)
	for _, name := range below.Chats {
		there := false
		for _, t := range all {
			there = there || t.name == name
		}
		if there {
			continue
		}
		t, err := link("use", name)
		if err != nil {
			return err
		}
		all = append(all, t)
	}
	for i, t := range all {
		if t.chat == nil {
			continue
		}
		own := &foot{Stage: c.Stage, gates: c.gates, slots: c.slots, accounts: c.accounts, borrowed: c.borrowed, line: c.line, preferred: t}
		behind := i + 1
		if i >= translating {
			behind = 1
		}
		for _, f := range all[min(behind, translating):translating] {
			if f.chat != nil {
				own.fallbacks = append(own.fallbacks, f)
			}
		}
		c.chats = append(c.chats, own)
	}
	return nil
}

// chat returns what calls the provider of that name for chats, or nil.
func (c *foot) chat(provider string) *foot {
	for _, own := range c.chats {
		if own.preferred.name == provider {
			return own
		}
	}
	return nil
}

// errNoChat meets a chat for a provider of another configuration than the one that
// serves now: files that name one that there is not are refused.
func errNoChat() *core.Error {
	return &core.Error{Kind: core.Unavailable, Stage: "provider", Detail: "the provider of this chat is not linked", Retryable: true}
}

// Chats returns the models that answer chats, that of the preferred provider first.
func (c *foot) Chats() []core.ChatModel {
	var all []core.ChatModel
	for _, own := range c.chats {
		all = append(all, *own.preferred.chat)
	}
	return all
}

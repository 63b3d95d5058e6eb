package provider

import (
	"slices"

	"github.com/dragoman-mt/dragoman/core"
)

// Chats go to the provider that they name, and from there to those of `fallback` that
// take chats and are listed behind it: an operator who names a fallback for a chat
// does not expect it to come back to the provider that it stands in for. They share
// everything else with texts: turns, breakers, the budget of retries. They are not
// hedged, for a second call may cost as much as an hour of captions, and how long
// they take says nothing of how long a text does.

// linkChats links those that c calls for chats: each that takes them of the ones that
// translate, then those that are for chats alone.
func (c *foot) linkChats(below core.Below, fallbacks []*group) error {
	names := c.cfg.Names()
	for _, name := range below.Chats {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		groups, err := c.link(below, "use", []string{name})
		if err != nil {
			return err
		}
		g := groups[0]
		if g.chat == nil {
			continue
		}
		w := &way{number: -1, first: g}
		for _, f := range fallbacks[slices.Index(fallbacks, g)+1:] {
			if f.chat != nil {
				w.then = append(w.then, f)
			}
		}
		c.chats = append(c.chats, w)
	}
	return nil
}

// chat returns the way of chats for the provider of that name, or nil.
func (c *foot) chat(provider string) *way {
	for _, w := range c.chats {
		if w.first.chat.Provider == provider {
			return w
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
	for _, w := range c.chats {
		all = append(all, *w.first.chat)
	}
	return all
}

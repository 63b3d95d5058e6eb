package engine

import (
	"strings"
	"testing"
)

// A billed is a provider that names whom its upstream bills.
type billed string

func (b billed) Account() string { return string(b) }

// What a part says of its account is a key's or an address's: two that say the
// same are one account whatever their entries are called, and the name of it
// tells nothing.
func TestAnAccountIsToldApartByWhatIsBilledAndTellsNothing(t *testing.T) {
	const said = "https://api.test\nAuthorization: sk-secret-key"
	entry := func(name, digest string, item any) *part {
		return &part{shared: &shared{item: item}, label: "provider", name: name, digest: digest}
	}
	of := entry("a", "1", billed(said)).account()
	for what, c := range map[string]struct {
		of   *part
		same bool
	}{
		"another entry, and other settings": {entry("b", "2", billed(said)), true},
		"another key":                       {entry("a", "1", billed(said+"2")), false},
		"one that names none":               {entry("a", "1", struct{}{}), false},
	} {
		if same := c.of.account() == of; same != c.same {
			t.Errorf("%s: the same account is %v", what, same)
		}
	}
	plain := entry("a", "1", struct{}{}).account()
	if plain == entry("b", "1", struct{}{}).account() || plain == entry("a", "2", struct{}{}).account() || plain != entry("a", "1", struct{}{}).account() {
		t.Error("an entry that names no account is its own, as long as it stays as it is")
	}
	if len(of) != 64 || strings.Trim(of, "0123456789abcdef") != "" {
		t.Errorf("%q", of)
	}
}

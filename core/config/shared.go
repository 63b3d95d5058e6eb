package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
	"github.com/knadh/koanf/v2"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/fields"
)

// Keys that every entry of `providers:` may have, whatever its type: they are about the
// account behind it, and no part sees them.
const (
	keyLimits   = "limits"
	keyAccounts = "accounts"
	keyWeight   = "weight"
)

// ofAccounts are the keys of an entry that its accounts may have of their own, where
// its kind has them.
var ofAccounts = []string{"api_key", "base_url"}

// mostAccounts is how many one entry may have.
const mostAccounts = 32

// shareSchema adds to the definition of a provider what every entry may say.
func shareSchema(with *jsonschema.Schema) {
	with.Properties.Set(keyLimits, fields.Schema(&core.Allowance{}, "What may be spent of the account of this entry, or of each of its accounts. The gateway keeps a ledger of each; who finds one full waits, or asks somebody else."))
	account := fields.Object("One account.")
	for _, key := range ofAccounts {
		if own, ok := with.Properties.Get(key); ok {
			one := *own
			one.Default = nil
			account.Properties.Set(key, &one)
		}
	}
	if account.Properties.Len() == 0 {
		return
	}
	account.Properties.Set(keyWeight, &jsonschema.Schema{
		Type: "integer", Minimum: "0", Maximum: "1000", Default: 1,
		Description: "How much of the calls it takes beside the others. 0: none, as long as one with a weight can be asked.",
	})
	one, most := uint64(1), uint64(mostAccounts)
	with.Properties.Set(keyAccounts, &jsonschema.Schema{
		Type: "array", Items: account, MinItems: &one, MaxItems: &most,
		Description: "Accounts that stand for each other: keys, regions. Each has limits of its own, and takes what another cannot. What one leaves out it has from the entry.",
	})
}

// An account is one of an entry that has several, decoded.
type account struct {
	config any
	weight int
	node   *node
}

// decodeShared fills in what an entry of providers says beside its kind, and takes it
// out of file and set.
func (l *loader) decodeShared(p *part, file, set map[string]any) error {
	limits, err := layers(object(file[keyLimits]), object(set[keyLimits]))
	if err != nil {
		return err
	}
	if err := fields.Decode(limits.Raw(), &p.limits); err != nil {
		return err // the schema has let it pass
	}
	list, _ := file[keyAccounts].([]any)
	if over, ok := set[keyAccounts].([]any); ok {
		list = over
	}
	for _, m := range []map[string]any{file, set} {
		delete(m, "type")
		delete(m, keyLimits)
		delete(m, keyAccounts)
	}
	nodes := p.find([]string{keyAccounts})
	weights := 0
	for i := range list {
		values := maps.Clone(object(list[i]))
		a := account{weight: 1, config: p.kind.Config(), node: nodes.items[i]}
		if w, ok := values[keyWeight].(int64); ok {
			a.weight = int(w)
		}
		weights += a.weight
		delete(values, keyWeight)
		defaults, _ := fields.Native(reflect.ValueOf(a.config)).(map[string]any)
		k, err := layers(defaults, file, set, values)
		if err != nil {
			return err
		}
		if err := k.UnmarshalWithConf("", a.config, koanf.UnmarshalConf{Tag: "json", DecoderConfig: fields.Strict()}); err != nil {
			l.undecodable(p, err)
			return nil
		}
		absolute(reflect.ValueOf(a.config), l.folder)
		p.accounts = append(p.accounts, a)
	}
	if len(p.accounts) > 0 && weights == 0 {
		path := []string{keyAccounts}
		l.about(nodes, nodes.pos, p.write(p.path, path), p.write(p.key, path), "the weights of all accounts are 0, so none of them would be called; give one a weight")
	}
	return nil
}

func object(value any) map[string]any {
	m, _ := value.(map[string]any)
	return m
}

// items are the accounts of p as entries of their own: NAME/1, NAME/2.
func (l *loader) items(p *part) (all []Item) {
	for i, a := range p.accounts {
		// What complains of a key of the account finds it there, and any other in the entry.
		own := *p
		own.file = &node{pos: a.node.pos, kind: p.file.kind, entries: slices.Clone(a.node.entries)}
		for _, e := range p.file.entries {
			if _, is := own.file.get(e.name); !is {
				own.file.entries = append(own.file.entries, e)
			}
		}
		own.config, own.ownNode = a.config, a.node
		own.own = fmt.Sprintf("%s.%s[%d]", p.path, keyAccounts, i)
		all = append(all, Item{
			Name: fmt.Sprintf("%s/%d", p.name, i+1), Kind: p.kind, Config: a.config, Enabled: true, Weight: a.weight, Limits: p.limits,
			Path: own.own, Line: a.node.line, Column: a.node.col, Digest: digest(&own), Origin: &origin{l, &own},
		})
	}
	return all
}

// shownAccounts writes accounts as `explain` shows them.
func (p *part) shownAccounts(reveal bool) string {
	nodes := p.find([]string{keyAccounts})
	var all []string
	for _, n := range nodes.items {
		var entries []string
		for _, e := range n.entries {
			text := fmt.Sprint(e.value.data(false))
			switch {
			case reveal:
			case e.value.secret || e.value.hasFiled():
				text = redacted
			default:
				text = withoutUser(text)
			}
			entries = append(entries, e.name+": "+text)
		}
		all = append(all, "{"+strings.Join(entries, ", ")+"}")
	}
	return "[" + strings.Join(all, ", ") + "]"
}

package usage

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A Use is what texts cost. Characters are code points of what clients sent.
type Use struct {
	Texts      int64 `json:"texts"`
	Characters int64 `json:"characters"`
	// The part of both that cost no call of a provider.
	CachedTexts      int64 `json:"cached_texts"`
	CachedCharacters int64 `json:"cached_characters"`

	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	// CachedTokens is the part of PromptTokens that the provider had cached.
	CachedTokens int64 `json:"cached_tokens"`

	Cost Cost `json:"cost,omitempty"`
}

// Plus returns the sum of u and v.
func (u Use) Plus(v Use) Use {
	u.Texts += v.Texts
	u.Characters += v.Characters
	u.CachedTexts += v.CachedTexts
	u.CachedCharacters += v.CachedCharacters
	u.PromptTokens += v.PromptTokens
	u.CompletionTokens += v.CompletionTokens
	u.CachedTokens += v.CachedTokens
	u.Cost = u.Cost.Plus(v.Cost)
	return u
}

// IsZero says whether nothing was used.
func (u Use) IsZero() bool {
	return u.Texts == 0 && u.Characters == 0 && u.PromptTokens == 0 && u.CompletionTokens == 0 && len(u.Cost) == 0
}

// A Cost is money in one currency or several, in the order of their names. It is never
// changed.
type Cost []Amount

// An Amount is money in billionths of a currency: a token of a cheap model costs some
// fifty of them. In JSON it is {"currency": "USD", "amount": "0.000000050"}, a decimal
// without rounding.
type Amount struct {
	Currency   string
	Billionths int64
}

type amount struct {
	Currency string `json:"currency"`
	Amount   string `json:"amount"`
}

func (a Amount) MarshalJSON() ([]byte, error) {
	n, sign := a.Billionths, ""
	if n < 0 {
		n, sign = -n, "-"
	}
	return json.Marshal(amount{a.Currency, fmt.Sprintf("%s%d.%09d", sign, n/1e9, n%1e9)})
}

func (a *Amount) UnmarshalJSON(raw []byte) error {
	var v amount
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	whole, part, ok := strings.Cut(v.Amount, ".")
	n, err := strconv.ParseInt(whole+part, 10, 64)
	if !ok || len(part) != 9 || err != nil {
		return fmt.Errorf("%.40q is no amount with nine decimals", v.Amount)
	}
	a.Currency, a.Billionths = v.Currency, n
	return nil
}

// String writes an amount to the millionth, as in "0.001234 USD".
func (a Amount) String() string {
	return strconv.FormatFloat(float64(a.Billionths)/1e9, 'f', 6, 64) + " " + a.Currency
}

func (c Cost) String() string {
	all := make([]string, len(c))
	for i, a := range c {
		all[i] = a.String()
	}
	return strings.Join(all, " + ")
}

// Plus returns the sum of c and d, by currency.
func (c Cost) Plus(d Cost) Cost {
	switch {
	case len(d) == 0:
		return c
	case len(c) == 0:
		return d
	}
	sum := slices.Clone(c)
	for _, a := range d {
		i, found := slices.BinarySearchFunc(sum, a.Currency, func(b Amount, currency string) int { return strings.Compare(b.Currency, currency) })
		if found {
			sum[i].Billionths += a.Billionths
		} else {
			sum = slices.Insert(sum, i, a)
		}
	}
	return sum
}

// A Price is what a provider takes for a million tokens, or characters.
type Price struct {
	Input, Output float64
	// CachedInput is for tokens of the prompt that the provider had cached.
	CachedInput float64
	Characters  bool // Input is for the characters of the text, and Output for those of the translation
	Currency    string
}

// of returns what one answer costs: its tokens are in u.
func (p Price) of(u Use, characters, translated int64) Cost {
	in := float64(u.PromptTokens-u.CachedTokens)*p.Input + float64(u.CachedTokens)*p.CachedInput
	out := float64(u.CompletionTokens) * p.Output
	if p.Characters {
		in, out = float64(characters)*p.Input, float64(translated)*p.Output
	}
	// What a million cost is told in the currency, so one costs a thousand times as many
	// billionths.
	n := int64(math.Round((in + out) * 1e3))
	if n == 0 {
		return nil
	}
	return Cost{{p.Currency, n}}
}

// SetPrices says what providers take, by their names, from now on.
func (b *Book) SetPrices(prices map[string]Price) { b.prices.Store(&prices) }

// Cost is what one answer of a provider costs, whose tokens are in u; nothing when its
// price is not known.
func (b *Book) Cost(provider string, u Use, characters, translated int64) Cost {
	if prices := b.prices.Load(); prices != nil {
		if p, known := (*prices)[provider]; known {
			return p.of(u, characters, translated)
		}
	}
	return nil
}

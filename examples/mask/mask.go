// Package mask is a stage that hides e-mail addresses and card numbers from
// everything below it, the cache included, and puts them back into the answer.
//
// It is an example of a stage in Go: the same Kinds are linked into a gateway of
// your own, by dragoman build --with, or served out of process, by sdk.Serve.
// Nothing in it knows which.
package mask

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// Kinds declares the stage.
func Kinds() []core.Kind {
	return []core.Kind{core.NewKind("mask", core.RoleStage, "Hides e-mail addresses and card numbers from what stands below, and puts them back.",
		func() Config { return Config{} },
		func(core.Env, *Config) (any, error) { return stage{}, nil })}
}

// Config has no keys.
type Config struct{}

// A stage keeps nothing: what After needs travels in the verdict's state, so
// that a plugin may be restarted in between.
type stage struct{}

var _ core.Hooks = stage{}

// Before replaces every address and number in the text, in the context and in
// the instructions by a placeholder such as {{1}}. Its state is what they stand
// for, as JSON.
func (stage) Before(_ context.Context, req *core.Request) (core.Verdict, error) {
	texts := []string{req.Text}
	for _, pair := range req.Context {
		texts = append(texts, pair.Source, pair.Target)
	}
	m := newMasker(append(texts, req.Instructions...))
	masked := *req
	masked.Text = m.mask(req.Text)
	inText := m.last
	masked.Context = nil
	for _, pair := range req.Context {
		masked.Context = append(masked.Context, core.Pair{Source: m.mask(pair.Source), Target: m.mask(pair.Target)})
	}
	masked.Instructions = nil
	for _, wish := range req.Instructions {
		masked.Instructions = append(masked.Instructions, m.mask(wish))
	}
	if len(m.values) == 0 {
		return core.Verdict{}, nil
	}
	state, err := json.Marshal(hidden{m.values, inText})
	switch {
	case err != nil:
		return core.Verdict{}, err
	case len(state) > maxState:
		return core.Verdict{}, &core.Error{Kind: core.TooLarge, Field: "text", Detail: "the text has more e-mail addresses and card numbers than can be kept aside; split it"}
	}
	return core.Verdict{Request: &masked, State: state}, nil
}

// hidden is what is kept between Before and After.
type hidden struct {
	Values map[int]string `json:"values"`
	// InText is the highest number in the text: what is above stood in the
	// context or the instructions alone.
	InText int `json:"in_text"`
}

// maxState is the most that a Before may hand to its After, in bytes.
const maxState = 64 << 10

// After puts back what Before has hidden. An answer that has lost a part of the
// text is a bad one.
func (stage) After(_ context.Context, _ *core.Request, res *core.Result, state []byte) (*core.Result, error) {
	if len(state) == 0 {
		return res, nil
	}
	var h hidden
	if err := json.Unmarshal(state, &h); err != nil {
		return nil, fmt.Errorf("the state is not what Before has returned: %w", err)
	}
	restored := *res
	seen := map[int]bool{}
	restored.Text = placeholder.ReplaceAllStringFunc(res.Text, func(found string) string {
		n := numberOf(found)
		value, ok := h.Values[n]
		if !ok {
			return found // it is the text's own
		}
		seen[n] = true
		return value
	})
	for n := range h.Values {
		if n <= h.InText && !seen[n] {
			return nil, &core.Error{Kind: core.BadAnswer, Detail: "the answer has lost an e-mail address or a card number of the text", Retryable: true}
		}
	}
	return &restored, nil
}

// placeholder is what stands for a hidden value, in a form that translators
// know as one; some of them add blanks.
var placeholder = regexp.MustCompile(`\{\{ *([0-9]{1,9}) *\}\}`)

func numberOf(found string) int {
	n, _ := strconv.Atoi(strings.Trim(found, "{} ")) // it is digits alone
	return n
}

// A masker numbers the values of one request.
type masker struct {
	taken  map[int]bool // numbers that stand in its texts as placeholders
	number map[string]int
	values map[int]string
	last   int
}

func newMasker(texts []string) *masker {
	m := &masker{taken: map[int]bool{}, number: map[string]int{}, values: map[int]string{}}
	for _, text := range texts {
		for _, found := range placeholder.FindAllString(text, -1) {
			m.taken[numberOf(found)] = true
		}
	}
	return m
}

// mask returns text with a placeholder for each value: for the same value the
// same one.
func (m *masker) mask(text string) string {
	var out strings.Builder
	end := 0
	for _, at := range find(text) {
		out.WriteString(text[end:at[0]])
		fmt.Fprintf(&out, "{{%d}}", m.of(text[at[0]:at[1]]))
		end = at[1]
	}
	out.WriteString(text[end:])
	return out.String()
}

func (m *masker) of(value string) int {
	if n, ok := m.number[value]; ok {
		return n
	}
	m.last++
	for m.taken[m.last] {
		m.last++
	}
	m.number[value], m.values[m.last] = m.last, value
	return m.last
}

var (
	// email is an address as people write it: RFC 5322 without quotes and
	// comments, with the letters of RFC 6531 of scripts that put blanks between
	// words. In others an address would swallow the sentence round it.
	email = regexp.MustCompile(`[` + letters + `_]` + `[` + letters + "!#$%&'*+/=?^_`{|}~.-]*@[" + letters + `-]+(\.[` + letters + `-]+)+`)
	// digits is a run of digits, with at most one separator between two.
	digits = regexp.MustCompile(`[0-9]([ .\x{a0}\x{202f}\x{2011}\x{2013}-]?[0-9])*`)
)

const letters = `0-9\p{Latin}\p{Greek}\p{Cyrillic}\p{Hebrew}\p{Arabic}`

// find returns where addresses and card numbers stand in text, in order.
func find(text string) [][]int {
	found := email.FindAllStringIndex(text, -1)
	for _, run := range digits.FindAllStringIndex(text, -1) {
		found = append(found, cards(text, run[0], run[1])...)
	}
	slices.SortFunc(found, func(a, b []int) int { return a[0] - b[0] })
	// A number inside an address is hidden with it; one that begins an address
	// ends where the address does.
	merged := found[:0]
	for _, at := range found {
		if last := len(merged) - 1; last >= 0 && at[0] < merged[last][1] {
			merged[last][1] = max(merged[last][1], at[1])
			continue
		}
		merged = append(merged, at)
	}
	return merged
}

// The number of digits that a card number may have (ISO/IEC 7812).
const minCard, maxCard = 13, 19

// cards returns where card numbers stand in text[from:to], a run of digits: the
// longest first, begun and ended where a separator or the run does.
func cards(text string, from, to int) (found [][]int) {
	var at []int // of the digits
	for i := from; i < to; i++ {
		if text[i] >= '0' && text[i] <= '9' {
			at = append(at, i)
		}
	}
	starts := func(i int) bool { return i == 0 || at[i] != at[i-1]+1 }
	for i := 0; i+minCard <= len(at); i++ {
		if !starts(i) {
			continue
		}
		for n := min(maxCard, len(at)-i); n >= minCard; n-- {
			if end := i + n; (end == len(at) || starts(end)) && luhn(text, at[i:end]) {
				found = append(found, []int{at[i], at[end-1] + 1})
				i = end - 1
				break
			}
		}
	}
	return found
}

// luhn says whether the digits at these places end in their check digit
// (ISO/IEC 7812-1, annex B).
func luhn(text string, at []int) bool {
	sum := 0
	for i, place := range at {
		d := int(text[place] - '0')
		if (len(at)-i)%2 == 0 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

package spec

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// judge holds what came against what the step expects at path.
func judge(path string, s *Step, c came) []failure {
	e := s.Expect
	var failures []failure
	differ := func(key, want, got string) {
		failures = append(failures, failure{path: path + "." + key, want: want, got: got})
	}
	switch {
	case c.err != nil && e.Error == "":
		want := "a translation"
		if e.Text != nil {
			want = quoted(*e.Text)
		}
		differ("text", want, c.outcome())
	case c.err != nil:
		if string(core.KindOf(c.err)) != e.Error {
			differ("error", "error "+e.Error, c.outcome())
		}
	case e.Error != "":
		differ("error", "error "+e.Error, c.outcome())
	default:
		judgeResult(e, c.result, differ)
	}
	if e.Attempts != nil && !slices.EqualFunc(e.Attempts, c.attempts, Attempt.meets) {
		differ("attempts", listed(e.Attempts), listed(c.attempts))
	}
	if e.Upstream != nil {
		if len(c.calls) == 0 {
			differ("upstream", quoted(*e.Upstream), "nothing: no provider was called")
		}
		for _, call := range c.calls {
			if call.text != *e.Upstream {
				differ("upstream", quoted(*e.Upstream), quoted(call.text)+", as "+call.provider+" saw it")
				break
			}
		}
	}
	if e.Streamed != nil && c.streamed != *e.Streamed {
		differ("streamed", quoted(*e.Streamed), quoted(c.streamed))
	}
	return failures
}

func judgeResult(e *Expect, res *core.Result, differ func(key, want, got string)) {
	if e.Text != nil && res.Text != *e.Text {
		differ("text", quoted(*e.Text), quoted(res.Text))
	}
	if e.Flags != nil && !slices.Equal(slices.Sorted(slices.Values(e.Flags)), slices.Sorted(slices.Values(res.Flags))) {
		differ("flags", listed(e.Flags), listed(res.Flags))
	}
	word := func(key, want, got string) {
		if want != "" && want != got {
			if got == "" {
				got = "none"
			}
			differ(key, want, got)
		}
	}
	word("provider", e.Provider, res.Provider)
	word("model", e.Model, res.Model)
	word("finish", e.Finish, string(res.Finish))
	if e.Cached != nil && *e.Cached != res.Cached {
		differ("cached", strconv.FormatBool(*e.Cached), strconv.FormatBool(res.Cached))
	}
	if got := (Usage{res.Usage.PromptTokens, res.Usage.CompletionTokens, res.Usage.CachedTokens}); e.Usage != nil && *e.Usage != got {
		differ("usage", e.Usage.String(), got.String())
	}
}

func (u Usage) String() string {
	return fmt.Sprintf("prompt %d, completion %d, cached %d", u.Prompt, u.Completion, u.Cached)
}

func listed[T any](list []T) string {
	if len(list) == 0 {
		return "none"
	}
	words := make([]string, len(list))
	for i := range list {
		words[i] = fmt.Sprint(list[i])
	}
	return strings.Join(words, ", ")
}

// quoted writes text so that what cannot be seen can be told.
func quoted(text string) string { return strconv.Quote(text) }

// outcome is the answer in a few words.
func (c came) outcome() string {
	if c.err != nil {
		e := core.AsError(c.err, "")
		text := "error " + string(e.Kind)
		if e.Stage != "" {
			text += " from " + e.Stage
		}
		if e.Detail != "" {
			text += ": " + e.Detail
		}
		return text
	}
	return quoted(c.result.Text)
}

// String is all that came.
func (c came) String() string {
	text := c.outcome()
	if c.err == nil {
		if c.result.Provider != "" {
			text += " from " + c.result.Provider
		}
		if c.result.Cached {
			text += ", cached"
		}
		if len(c.result.Flags) > 0 {
			text += ", flags " + listed(c.result.Flags)
		}
	}
	return text + "; attempts: " + listed(c.attempts)
}

// Write tells of a test: one line when it passed, and when it failed what was
// expected and what came. Verbose tells what came in any case.
func (o Outcome) Write(w io.Writer, verbose bool) {
	word := [...]string{Passed: "ok  ", Failed: "FAIL", Skipped: "skip"}[o.Grade]
	fmt.Fprintf(w, "%s  %s", word, o.name)
	if o.reason != "" {
		fmt.Fprintf(w, ": %s", o.reason)
	}
	if verbose {
		fmt.Fprintf(w, " (%v)", o.took.Round(time.Millisecond))
	}
	fmt.Fprintln(w)
	if verbose {
		for _, line := range o.came {
			fmt.Fprintf(w, "      came %s\n", line)
		}
	}
	for _, f := range o.failures {
		fmt.Fprintf(w, "      %s:%d:%d: %s\n", f.place.File, f.place.Line, f.place.Column, f.place.Path)
		if f.note != "" {
			fmt.Fprintf(w, "        %s\n", f.note)
		}
		show(w, "want", f.want)
		show(w, "got ", f.got)
		if where := firstDifference(f.want, f.got); where != "" {
			fmt.Fprintf(w, "        %s\n", where)
		}
	}
}

// show writes text behind word, its further lines under its first.
func show(w io.Writer, word, text string) {
	fmt.Fprintf(w, "        %s %s\n", word, strings.ReplaceAll(text, "\n", "\n             "))
}

// firstDifference says where two quoted texts part, if they are long enough for
// that to be hard to see.
func firstDifference(want, got string) string {
	a, errA := strconv.Unquote(want)
	b, errB := strconv.Unquote(got)
	if errA != nil || errB != nil || utf8.RuneCountInString(a) < 20 {
		return ""
	}
	left, right := []rune(a), []rune(b)
	n := 0
	for n < len(left) && n < len(right) && left[n] == right[n] {
		n++
	}
	at := func(text []rune) string {
		if n >= len(text) {
			return "the end"
		}
		return fmt.Sprintf("%s (%U)", strconv.QuoteRune(text[n]), text[n])
	}
	return fmt.Sprintf("they differ from character %d on: want %s, got %s", n+1, at(left), at(right))
}

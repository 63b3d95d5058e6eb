package coretest

import (
	"math"
	"slices"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
)

// measured checks what item reports, if it does. private says that requests of
// this suite have passed, whose texts and names must not show.
func measured(p *part, item any, private bool) {
	p.Helper()
	m, ok := item.(core.Measurer)
	if !ok {
		return
	}
	shapes, seen := map[string]core.Measure{}, map[string]bool{}
	m.Measure(func(m core.Measure) {
		for _, wrong := range misnamed(m) {
			p.Errorf("measure %q: %s", m.Name, wrong)
		}
		if private && slices.ContainsFunc(m.Labels, func(l string) bool { return strings.Contains(l, mark) }) {
			p.Errorf("measure %q: a label holds a text, a session or a client: %q", m.Name, m.Labels)
		}
		id := m.Name + "\x00" + strings.Join(m.Labels, "\x00")
		if seen[id] {
			p.Errorf("measure %q: reported twice with the labels %q", m.Name, m.Labels)
		}
		seen[id] = true
		first, ok := shapes[m.Name]
		if !ok {
			shapes[m.Name] = m
			return
		}
		if first.Help != m.Help || first.Counter != m.Counter || (first.Histogram == nil) != (m.Histogram == nil) || !slices.Equal(labelNames(first), labelNames(m)) {
			p.Errorf("measure %q: its help, its type or the names of its labels are not always the same", m.Name)
		}
	})
}

// misnamed says what is wrong with m.
func misnamed(m core.Measure) (wrong []string) {
	say := func(bad bool, what string) {
		if bad {
			wrong = append(wrong, what)
		}
	}
	unit := strings.TrimSuffix(m.Name, "_total")
	say(!snakeCase.MatchString(m.Name), "the name is not in snake case")
	say(strings.HasPrefix(m.Name, "dragoman_"), "the program's prefix is not part of the name")
	say(m.Counter && unit == m.Name, "a counter's name ends in _total")
	say(!m.Counter && unit != m.Name, "a gauge's name does not end in _total")
	for _, other := range []string{"_ms", "_millis", "_milliseconds", "_us", "_microseconds", "_ns", "_nanoseconds", "_minutes", "_hours", "_duration", "_time"} {
		say(strings.HasSuffix(unit, other), "a time is in seconds, and its name says so")
	}
	say(strings.Contains(unit, "seconds") && !strings.HasSuffix(unit, "_seconds"), "the unit stands at the end of the name")
	say(strings.TrimSpace(m.Help) == "", "it has no help")
	say(math.IsNaN(m.Value) || math.IsInf(m.Value, 0), "the value is not a number")
	say(m.Counter && m.Value < 0, "a counter is never below zero")
	say(len(m.Labels)%2 != 0, "a label has no value")
	for _, name := range labelNames(m) {
		say(!snakeCase.MatchString(name), "a label's name is not in snake case")
	}
	return wrong
}

func labelNames(m core.Measure) (names []string) {
	for i := 0; i < len(m.Labels); i += 2 {
		names = append(names, m.Labels[i])
	}
	return names
}

package config

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
)

// A Change is one difference between two configurations. One of Old and New is
// empty for a part that only the other has.
type Change struct {
	// Path is the key as `--set` takes it; of a part that came or went, its
	// place: "stages.mask".
	Path string
	// Old and New are as `--set` takes them; secrets are [redacted].
	Old, New string
}

// The values of Old and New of a part that came or went.
const there = "there"

// String is the change as one phrase: "pool.mode pooled -> direct".
func (c Change) String() string {
	switch {
	case c.Old == "" && c.New == there:
		return c.Path + " added"
	case c.Old == there && c.New == "":
		return c.Path + " removed"
	case c.Old == c.New: // as far as may be shown
		return c.Path + " changed"
	case c.Old == "":
		return c.Path + " " + clip(c.New) + " added"
	case c.New == "":
		return c.Path + " " + clip(c.Old) + " removed"
	}
	return fmt.Sprintf("%s %s -> %s", c.Path, clip(c.Old), clip(c.New))
}

// Diff returns what differs between the effective values of two files, in the
// order of the new one, what went at the end. Where a value is from is no
// difference, and neither is a comment.
func Diff(old, new *File) []Change {
	var changes []Change
	was, is := effective(old), effective(new)
	gone, came := missing(old, new), missing(new, old)
	for _, v := range is {
		i := slices.IndexFunc(was, func(w Value) bool { return w.Path == v.Path })
		switch {
		case within(v.Path, came):
		case i < 0:
			changes = append(changes, Change{v.Path, "", v.Text})
		case was[i].Sum != v.Sum:
			changes = append(changes, Change{v.Path, was[i].Text, v.Text})
		}
	}
	for _, place := range came {
		changes = append(changes, Change{place, "", there})
	}
	for _, v := range was {
		if !within(v.Path, gone) && !slices.ContainsFunc(is, func(w Value) bool { return w.Path == v.Path }) {
			changes = append(changes, Change{v.Path, v.Text, ""})
		}
	}
	for _, place := range gone {
		changes = append(changes, Change{place, there, ""})
	}
	if len(came) == 0 && len(gone) == 0 {
		if before, now := order(old), order(new); before != now {
			changes = append(changes, Change{"stages", before, now})
		}
	}
	return changes
}

// Overruled returns the values of new which the file gives otherwise than that of
// old did, or not any more, and which a --set gives all the same: an edit of
// such a key changes nothing.
func Overruled(old, new *File) []Value {
	var all []Value
	for _, v := range new.Values {
		i := slices.IndexFunc(old.Values, func(w Value) bool { return w.Path == v.Path })
		if v.From == bySet && i >= 0 && old.Values[i].From == bySet && old.Values[i].Below != v.Below {
			all = append(all, v)
		}
	}
	return all
}

// bySet is the origin of a value that a --set gives.
const bySet = "--set"

// effective returns the values of f, and that a stage is enabled which says
// nothing about it.
func effective(f *File) []Value {
	all := slices.Clone(f.Values)
	for _, s := range f.Stages {
		path := "stages." + s.Name + ".enabled"
		if !slices.ContainsFunc(all, func(v Value) bool { return v.Path == path }) {
			all = append(all, Value{Path: path, Text: "true", Sum: maphash.String(seed, "true")})
		}
	}
	return all
}

// places returns where the parts of f stand, as `--set` writes it.
func places(f *File) []string {
	var all []string
	for _, p := range f.Providers {
		all = append(all, "providers."+p.Name)
	}
	for _, s := range f.Stages {
		all = append(all, "stages."+s.Name)
	}
	return all
}

// missing returns the places of f that other lacks.
func missing(f, other *File) []string {
	has := places(other)
	return slices.DeleteFunc(places(f), func(place string) bool { return slices.Contains(has, place) })
}

// within says whether path belongs to one of places.
func within(path string, places []string) bool {
	return slices.ContainsFunc(places, func(place string) bool { return strings.HasPrefix(path, place+".") })
}

func order(f *File) string {
	var names []string
	for _, s := range f.Stages {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

package door

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dragoman-mt/dragoman/core"
)

// Values of server.instructions.
const (
	instructionsOn  = "on"
	instructionsOff = "off"
)

// Bounds of the instructions of one call, which go into the prompt of each of its
// texts.
const (
	maxInstructions = 10
	maxInstruction  = 300 // code points
)

// ClientInstructions returns what a provider is told of the instructions that a
// client gave in field: each is one line, since a line break could make it look
// like something that the operator wrote. With server.instructions off that is
// nothing, and ignored says whether there were any. The errors, too_large and
// invalid_request, name the one at fault.
func (r *Rules) ClientInstructions(given []string, field string) (taken []string, ignored bool, err error) {
	if len(given) > maxInstructions {
		return nil, false, &core.Error{Kind: core.TooLarge, Field: field, Detail: fmt.Sprintf("%d instructions are given; at most %d are taken", len(given), maxInstructions)}
	}
	for i, text := range given {
		name := field + "[" + strconv.Itoa(i) + "]"
		if err := CheckText(text, name); err != nil {
			return nil, false, err
		}
		if n := utf8.RuneCountInString(text); n > maxInstruction {
			return nil, false, &core.Error{Kind: core.TooLarge, Field: name, Detail: fmt.Sprintf("%s has %d code points; at most %d are taken", name, n, maxInstruction)}
		}
		line := oneLine(text)
		if line == "" {
			return nil, false, &core.Error{Kind: core.InvalidRequest, Field: name, Detail: name + " is blank"}
		}
		taken = append(taken, line)
	}
	if r.Instructions == instructionsOff {
		return nil, len(given) > 0, nil
	}
	return taken, false, nil
}

// oneLine returns text with a blank in place of each control character and line
// break, and without those round it.
func oneLine(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text))
}

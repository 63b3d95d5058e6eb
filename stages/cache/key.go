package cache

import (
	"encoding/binary"
	"strings"

	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/core/text/normal"
)

// appendKey appends all of req that changes its answer to dst, so that two
// requests have the same key only when one answer serves both. Every part says
// its length first, but for the text, which is the last.
func appendKey(dst []byte, req *core.Request) []byte {
	if req.Chat != nil {
		return append(appendPart(dst, chats), req.Chat.Key...)
	}
	dst = appendPart(dst, string(req.Source))
	dst = appendPart(dst, string(req.Target))
	dst = appendPart(dst, string(req.Formality))
	dst = appendPart(dst, req.Glossary)
	dst = appendPart(dst, req.GlossaryVersion)
	dst = binary.AppendUvarint(dst, uint64(len(req.Instructions)))
	for _, s := range req.Instructions {
		dst = appendPart(dst, s)
	}
	dst = binary.AppendUvarint(dst, uint64(len(req.Context)))
	for _, p := range req.Context {
		dst = appendPart(dst, p.Source)
		dst = appendPart(dst, p.Target)
	}
	if m := req.Markup; m != nil {
		dst = append(dst, markup, 'h')
		if m.XML {
			dst[len(dst)-1] = 'x'
		}
		dst = binary.AppendUvarint(dst, uint64(len(m.Ignore)))
		for _, name := range m.Ignore {
			dst = appendPart(dst, name)
		}
	}
	begin := len(dst)
	dst = normal.Append(dst, req.Text)
	if string(dst[begin:]) != req.Text && isExact(req.Text) {
		dst = append(dst[:begin], req.Text...)
	}
	return dst
}

// markup stands before what a text is written in; no text begins with it.
const markup = 0

// relieved stands behind the key of a flight that leaves the provider in use alone: who
// does not ask for that is not to get a fallback's answer.
const relieved = "\x00relieved"

// isExact says that s is looked up as it is: blanks in what it has of code, tags and
// placeholders come back as they are.
func isExact(s string) bool {
	for _, sign := range []byte("`<{$") {
		if strings.IndexByte(s, sign) >= 0 {
			return true
		}
	}
	return false
}

// chats stands in place of a source language before the key of a chat; it is none.
const chats = "\x00chat"

func appendPart(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

package cache

import (
	"encoding/binary"

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
	return normal.Append(dst, req.Text)
}

// chats stands in place of a source language before the key of a chat; it is none.
const chats = "\x00chat"

func appendPart(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

package usage

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"
)

// A journal is lines, each of which is
//
//	CRC day door client session texts characters cached_texts cached_characters prompt completion cached [CURRENCY=BILLIONTHS]...
//
// with tabs between, the names quoted as Go does, and first the CRC-32 of what follows
// it. A line without its end was being written when its process ended, and nobody was
// answered for it.

// longestLine is far beyond what names can be.
const longestLine = 64 << 10

func appendLine(b []byte, r row, u Use) []byte {
	begin := len(b)
	b = append(b, "00000000\t"...)
	body := len(b)
	b = append(append(b, r.day...), '\t')
	for _, name := range []string{r.door, r.client, r.session} {
		b = append(strconv.AppendQuoteToASCII(b, name), '\t')
	}
	for i, n := range []int64{u.Texts, u.Characters, u.CachedTexts, u.CachedCharacters, u.PromptTokens, u.CompletionTokens, u.CachedTokens} {
		if i > 0 {
			b = append(b, '\t')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	for _, a := range u.Cost {
		b = append(append(append(b, '\t'), a.Currency...), '=')
		b = strconv.AppendInt(b, a.Billionths, 10)
	}
	const hex = "0123456789abcdef"
	sum := crc32.ChecksumIEEE(b[body:])
	for i := range 8 {
		b[begin+i] = hex[sum>>(28-4*i)&15]
	}
	return append(b, '\n')
}

var errLine = errors.New("the line is not what was written")

// parseLine reads a line without its end.
func parseLine(line string) (r row, u Use, err error) {
	sum, body, ok := strings.Cut(line, "\t")
	want, bad := strconv.ParseUint(sum, 16, 32)
	if !ok || len(sum) != 8 || bad != nil || uint32(want) != crc32.ChecksumIEEE([]byte(body)) {
		return r, u, errLine
	}
	fields := strings.Split(body, "\t")
	if len(fields) < 11 {
		return r, u, errLine
	}
	if _, err := time.Parse(time.DateOnly, fields[0]); err != nil {
		return r, u, errLine
	}
	r.day = fields[0]
	for i, into := range []*string{&r.door, &r.client, &r.session} {
		if *into, err = strconv.Unquote(fields[1+i]); err != nil {
			return r, u, errLine
		}
	}
	for i, into := range []*int64{&u.Texts, &u.Characters, &u.CachedTexts, &u.CachedCharacters, &u.PromptTokens, &u.CompletionTokens, &u.CachedTokens} {
		if *into, err = strconv.ParseInt(fields[4+i], 10, 64); err != nil {
			return r, u, errLine
		}
	}
	for _, f := range fields[11:] {
		currency, n, ok := strings.Cut(f, "=")
		billionths, err := strconv.ParseInt(n, 10, 64)
		if !ok || err != nil {
			return r, u, errLine
		}
		u.Cost = u.Cost.Plus(Cost{{currency, billionths}})
	}
	return r, u, nil
}

// readJournal gives every line of a journal to add. Damaged says how many whole lines
// are not what was written; they are passed over.
func readJournal(from io.Reader, add func(row, Use)) (damaged int, err error) {
	in := bufio.NewReaderSize(from, longestLine)
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case err == io.EOF:
			return damaged, nil
		case errors.Is(err, bufio.ErrBufferFull):
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			damaged++
		case err != nil:
			return damaged, fmt.Errorf("reading it: %w", err)
		default:
			r, u, bad := parseLine(string(line[:len(line)-1]))
			if bad != nil {
				damaged++
				continue
			}
			if !u.IsZero() {
				add(r, u)
			}
		}
	}
}

// Command pictures turns a terminal's screen, as `tmux capture-pane -p -e` prints
// it on standard input, into an SVG picture on standard output.
package main

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pictures COLUMNS COMMAND < screen > picture.svg")
		os.Exit(2)
	}
	var columns int
	if _, err := fmt.Sscan(os.Args[1], &columns); err != nil || columns < 1 {
		fmt.Fprintln(os.Stderr, "COLUMNS must be a number from 1")
		os.Exit(2)
	}
	screen, err := io.ReadAll(bufio.NewReader(os.Stdin))
	if err == nil {
		_, err = io.WriteString(os.Stdout, draw(string(screen), columns, os.Args[2]))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	cellWidth  = 8.4 // of a character, forced by textLength, whatever the font
	lineHeight = 19
	margin     = 18
	bar        = 36 // the window's title
)

var sgr = regexp.MustCompile("\x1b\\[([0-9;]*)m")

// draw returns the picture. It has a dark ground of its own, so that it is as
// legible on a light page as on a dark one.
func draw(screen string, columns int, title string) string {
	lines := strings.Split(strings.TrimRight(screen, "\n "), "\n")
	width := int(float64(columns)*cellWidth) + 2*margin
	height := bar + len(lines)*lineHeight + margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">
<style>text{font:14px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;fill:#d7dee8;white-space:pre}.head{fill:#7cc4ff;font-weight:bold}.bad{fill:#ff8a80;font-weight:bold}.title{fill:#97a3b4}</style>
<rect x=".5" y=".5" width="%d" height="%d" rx="9" fill="#17202c" stroke="#3a4758"/>
<circle cx="20" cy="18" r="5.5" fill="#ff5f57"/><circle cx="38" cy="18" r="5.5" fill="#febc2e"/><circle cx="56" cy="18" r="5.5" fill="#28c840"/>
<text class="title" x="80" y="23">%s</text>
`, width, height, width, height, html.EscapeString(title), width-1, height-1, html.EscapeString(title))
	class := ""
	for i, line := range lines {
		y, column := bar+(i+1)*lineHeight-5, 0
		plain := sgr.ReplaceAllString(line, "")
		heading := head.MatchString(plain)
		write := func(text string) {
			// Words apart from their blanks, so that columns stay in line.
			for _, at := range words.FindAllStringIndex(text, -1) {
				word := text[at[0]:at[1]]
				x := column + utf8.RuneCountInString(text[:at[0]])
				c := class
				if c == "" && heading {
					c = "head"
				}
				if c != "" {
					c = fmt.Sprintf(` class="%s"`, c)
				}
				n := utf8.RuneCountInString(word)
				fmt.Fprintf(&b, `<text%s x="%.1f" y="%d" textLength="%.1f" lengthAdjust="spacingAndGlyphs">%s</text>`+"\n",
					c, margin+float64(x)*cellWidth, y, float64(n)*cellWidth, html.EscapeString(word))
			}
			column += utf8.RuneCountInString(text)
		}
		from := 0
		for _, at := range sgr.FindAllStringSubmatchIndex(line, -1) {
			write(line[from:at[0]])
			for _, code := range strings.Split(line[at[2]:at[3]], ";") {
				switch code {
				case "", "0", "39":
					class = ""
				case "31":
					class = "bad"
				}
			}
			from = at[1]
		}
		write(line[from:])
	}
	b.WriteString("</svg>\n")
	return b.String()
}

var (
	head  = regexp.MustCompile(`^(?:[A-Z]{4,}( [A-Z]+)*  |time +request )`)
	words = regexp.MustCompile(`\S+(?: \S+)*`)
)

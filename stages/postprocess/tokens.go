package postprocess

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Servers that know another template than their model let its control tokens through.
// Nearly all are written between <| and |>, whatever they are called; DeepSeek's are
// written with wide bars. These are the others. It is written to by nobody.
var plainTokens = []string{
	"<end_of_turn>", "<start_of_turn>", "<eos>", "<bos>", "<pad>", "<unk>", "<s>", "</s>", "<EOT>", "<end_of_utterance>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[EOS]", "[BOS]",
}

// maxToken is the longest name of a control token, in bytes.
const maxToken = 48

// tokenOf returns the control token that s begins with, if any. May says that s is the
// beginning of one, or more of it could be.
func tokenOf(s string) (token string, may bool) {
	for _, bar := range [...]string{"|", "｜"} {
		inside, is := strings.CutPrefix(s, "<"+bar)
		if !is {
			if len(s) <= len("<"+bar) && strings.HasPrefix("<"+bar, s) {
				may = true
			}
			continue
		}
		at := strings.IndexFunc(inside, func(r rune) bool { return !inToken(r) })
		switch {
		case at < 0:
			return "", len(inside) <= maxToken
		case at == 0 || at > maxToken:
			return "", false
		}
		end := inside[at:]
		if strings.HasPrefix(end, bar+">") {
			return s[:len(s)-len(end)+len(bar)+1], true
		}
		return "", strings.HasPrefix(bar+">", end)
	}
	for _, token := range plainTokens {
		if strings.HasPrefix(s, token) {
			return token, true
		}
		may = may || strings.HasPrefix(token, s)
	}
	return "", may
}

func inToken(r rune) bool {
	return r == '_' || r == '▁' || r == '/' || r == '-' || r == '.' || r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsNumber(r)) || r == ' '
}

// withoutTokens takes off the first token behind a word, and what stands behind: another
// turn, or nothing.
func withoutTokens(q *question, answer string) string {
	if strings.IndexByte(answer, '<') < 0 && strings.IndexByte(answer, '[') < 0 {
		return answer
	}
	q.spend(2 * len(answer))
	if at := tokenAt(q, answer, 0, false); at > 0 && hasWord(answer[:at]) {
		return answer[:at]
	}
	return answer
}

// tokensAt finds from where on withoutTokens may take off the end of answer.
func tokensAt(q *question, answer string, from int) int {
	q.spend(2 * (len(answer) - from))
	return tokenAt(q, answer, from, true)
}

// tokenAt finds the first token from from on that the text has not; partial: or what
// may become one at the end. Without any it is the length of answer, or -1.
func tokenAt(q *question, answer string, from int, partial bool) int {
	for at := from; ; at++ {
		i := strings.IndexAny(answer[at:], "<[")
		if i < 0 {
			break
		}
		at += i
		token, may := tokenOf(answer[at:])
		if token == "" && partial && may || token != "" && !q.says(strings.ToLower(token)) {
			return at
		}
	}
	if partial {
		return len(answer)
	}
	return -1
}

// The channels of OpenAI's Harmony format, as gpt-oss writes them: what it thinks goes
// into one, the answer into another.
const (
	channel = "<|channel|>"
	message = "<|message|>"
)

// roles are what a turn of the model is called behind the token that begins it. It is
// written to by nobody.
var roles = []string{"assistant", "model", "bot", "gpt"}

// withoutTurn takes off what begins the model's turn in a template: control tokens, its
// role, and channels before that of the answer.
func withoutTurn(q *question, answer string) string {
	kept, _ := behindTurn(q, answer, false)
	return kept
}

// startsTurn is withoutTurn of an answer that goes on.
func startsTurn(q *question, answer string) string {
	kept, _ := behindTurn(q, answer, true)
	return kept
}

// opensTurn says whether more of answer may be the beginning of a turn.
func opensTurn(q *question, answer string) bool {
	_, wait := behindTurn(q, answer, true)
	return wait
}

// behindTurn returns what stands behind the beginning of a turn. Wait says that this is
// not known before more of answer, which is partial, has come.
func behindTurn(q *question, answer string, partial bool) (kept string, wait bool) {
	if answer == "" {
		return answer, false
	}
	switch {
	case answer[0] == '<' || answer[0] == '[':
	case 'a' <= answer[0] && answer[0] <= 'z':
		return behindRole(q, answer, partial)
	default:
		return answer, false
	}
	kept = answer
	for range maxRounds {
		q.spend(maxToken)
		token, may := tokenOf(kept)
		if token == "" {
			return kept, partial && may
		}
		if q.says(strings.ToLower(token)) {
			return kept, false
		}
		rest := kept[len(token):]
		switch token {
		case "<|im_start|>", "<|start_header_id|>", "<|header_start|>", "<start_of_turn>", "<|start|>", "<|start_of_role|>", "<|turn|>":
			role := rest[:len(rest)-len(strings.TrimLeftFunc(rest, unicode.IsLetter))]
			if partial && len(role) == len(rest) {
				return kept, true
			}
			for _, known := range roles {
				if role == known {
					rest = rest[len(role):]
				}
			}
		case channel:
			name, behind, is := strings.Cut(rest, message)
			switch {
			case !is && partial:
				return kept, true
			case !is:
				return "", false
			case !strings.HasPrefix(name, "final"):
				q.spend(len(behind))
				at := strings.LastIndex(behind, channel+"final")
				if at < 0 {
					return "", partial // nothing but thoughts
				}
				if _, behind, is = strings.Cut(behind[at:], message); !is {
					return "", partial
				}
			}
			rest = behind
		}
		kept = strings.TrimLeftFunc(rest, unicode.IsSpace)
	}
	return kept, false
}

// behindRole is behindTurn where a server has swallowed the tokens, so that their names
// stand by themselves: "assistant" in a line above the answer, and "analysisThe user wants
// …assistantfinal" before it.
func behindRole(q *question, answer string, partial bool) (kept string, wait bool) {
	for _, role := range roles[:2] {
		rest, is := strings.CutPrefix(answer, role)
		switch {
		case !is:
			if partial && strings.HasPrefix(role, answer) && !q.says(role) {
				return answer, true
			}
		case q.says(role):
			return answer, false
		case partial && strings.TrimLeft(rest, " ") == "":
			return answer, true
		case strings.HasPrefix(strings.TrimLeft(rest, " "), "\n") && hasWord(rest):
			return strings.TrimSpace(rest), false
		case partial && strings.TrimSpace(rest) == "":
			return answer, true
		}
	}
	const thinks, answers = "analysis", "assistantfinal"
	rest, is := strings.CutPrefix(answer, thinks)
	switch {
	case !is:
		return answer, partial && strings.HasPrefix(thinks, answer) && !q.says(thinks)
	case rest == "":
		return answer, partial && !q.says(thinks)
	}
	if first, _ := utf8.DecodeRuneInString(rest); !unicode.IsUpper(first) || q.says(thinks) {
		return answer, false
	}
	q.spend(len(rest))
	at := strings.LastIndex(rest, answers)
	if at < 0 {
		return answer, partial
	}
	if kept = strings.TrimSpace(rest[at+len(answers):]); kept == "" {
		return "", partial
	}
	return kept, false
}

// thoughtMarks are round the thoughts of models that write no tags. It is written to by
// nobody.
var thoughtMarks = []struct{ open, shut string }{
	{"[THINK]", "[/THINK]"}, {"◁think▷", "◁/think▷"}, {"<|START_THINKING|>", "<|END_THINKING|>"}, {"<seed:think>", "</seed:think>"},
	{"<|begin_of_thought|>", "<|end_of_thought|>"}, {"<|thinking|>", "<|/thinking|>"}, {"<|think|>", "<|/think|>"},
}

// withoutMarkedThoughts takes off thoughts that stand first between such marks. Some that
// never end leave nothing.
func withoutMarkedThoughts(q *question, answer string) string {
	kept, _ := behindMarkedThoughts(q, answer)
	return kept
}

// startsMarkedThoughts is withoutMarkedThoughts of an answer that goes on.
func startsMarkedThoughts(q *question, answer string) string {
	if kept, open := behindMarkedThoughts(q, answer); !open {
		return kept
	}
	return answer
}

// opensMarkedThoughts says whether answer begins with such thoughts, which have not
// ended.
func opensMarkedThoughts(q *question, answer string) bool {
	for _, mark := range thoughtMarks {
		if answer != "" && strings.HasPrefix(mark.open, answer) && !q.says(strings.ToLower(mark.open)) {
			return true
		}
	}
	_, open := behindMarkedThoughts(q, answer)
	return open
}

func behindMarkedThoughts(q *question, answer string) (kept string, open bool) {
	for _, mark := range thoughtMarks {
		rest, is := strings.CutPrefix(answer, mark.open)
		if !is || q.says(strings.ToLower(mark.open)) {
			continue
		}
		q.spend(len(rest))
		_, behind, shut := strings.Cut(rest, mark.shut)
		if !shut {
			return "", true
		}
		return strings.TrimSpace(behind), strings.TrimSpace(behind) == ""
	}
	return answer, false
}

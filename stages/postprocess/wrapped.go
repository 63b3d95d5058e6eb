package postprocess

import (
	"encoding/json"
	"strings"
)

// withoutJSON returns the one string of an answer that is a JSON object or array,
// unless the text is written so as well.
func withoutJSON(q *question, answer string) string {
	if !opensJSON(q, answer) || len(answer) < 4 {
		return answer
	}
	if last := answer[len(answer)-1]; last != '}' && last != ']' {
		return answer
	}
	q.spend(4 * len(answer))
	var tree any
	if json.Unmarshal([]byte(answer), &tree) != nil {
		return answer
	}
	found := ""
	if n := stringsIn(tree, &found, 0); n != 1 || !hasWord(found) {
		return answer
	}
	return found
}

// deepestJSON is how many objects and arrays models put round a translation.
const deepestJSON = 4

// stringsIn counts the strings of tree, up to 2, and returns one in found.
func stringsIn(tree any, found *string, depth int) (n int) {
	add := func(v any) bool { n += stringsIn(v, found, depth+1); return n < 2 }
	switch v := tree.(type) {
	case string:
		*found = v
		return 1
	case []any:
		for _, each := range v {
			if depth >= deepestJSON || !add(each) {
				return 2
			}
		}
	case map[string]any:
		for _, each := range v {
			if depth >= deepestJSON || !add(each) {
				return 2
			}
		}
	}
	return n
}

// opensJSON says whether answer begins like JSON, and the text does not.
func opensJSON(q *question, answer string) bool {
	if answer == "" || answer[0] != '{' && answer[0] != '[' || strings.HasPrefix(q.source, answer[:1]) {
		return false
	}
	switch rest := strings.TrimLeft(answer[1:], " \t\r\n"); {
	case rest == "":
		return true
	case answer[0] == '{':
		return rest[0] == '"'
	default:
		return rest[0] == '"' || rest[0] == '{' || rest[0] == '['
	}
}

// tokens end a turn in the templates of chat models; servers that know another
// template let them through. What stands behind one is no part of the answer.
var tokens = [...]string{
	"<|im_end|>", "<|im_start|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>", "<|return|>", "<|eom_id|>", "<|start_header_id|>",
	"<end_of_turn>", "<start_of_turn>", "<eos>", "</s>", "<|END_OF_TURN_TOKEN|>", "<|user|>", "<|endofassistant|>", "<｜end▁of▁sentence｜>", "[/INST]",
}

// withoutTokens takes off the first token that ends a turn, and what stands behind.
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
		for _, token := range tokens {
			rest := answer[at:]
			if strings.HasPrefix(rest, token) || partial && strings.HasPrefix(token, rest) {
				if !strings.Contains(q.source, token) {
					return at
				}
			}
		}
	}
	if partial {
		return len(answer)
	}
	return -1
}

// withoutSource takes off the text itself where it stands, word for word, above or
// before an arrow to its translation.
func withoutSource(q *question, answer string) string {
	rest, ok := strings.CutPrefix(answer, q.source)
	if !ok || rest == "" {
		return answer
	}
	q.spend(len(answer))
	kept := strings.TrimLeft(rest, " \t")
	for _, mark := range [...]string{"\n", "\r\n", "→", "->", "=>", "➜", "⟶"} {
		if behind, is := strings.CutPrefix(kept, mark); is {
			kept = strings.TrimSpace(behind)
			need := reach{need: counts{ofLines: q.count()[ofLines]}, ready: true}
			if !hasWord(kept) || strings.Contains(kept, q.source) || strings.Contains(q.source, kept) || !need.covers(q, kept, len(kept)) {
				return answer
			}
			return kept
		}
	}
	return answer
}

// opensSource says whether answer begins with the text, or is a part of it so far,
// and the translation may follow. A text that is echoed and nothing else is for its
// judge.
func opensSource(q *question, answer string) bool {
	rest, ok := strings.CutPrefix(answer, q.source)
	if !ok {
		return answer != "" && strings.HasPrefix(q.source, answer)
	}
	rest = strings.TrimLeft(rest, " \t\r")
	return rest == "" || strings.IndexByte("\n-=", rest[0]) >= 0 || strings.HasPrefix(rest, "→") || strings.HasPrefix(rest, "➜") || strings.HasPrefix(rest, "⟶")
}

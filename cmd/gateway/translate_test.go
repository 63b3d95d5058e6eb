package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/stages/openai/openaitest"
)

// failNext makes the simulator's next completions meet fault.
func (s *simulator) failNext(fault string, n int) {
	s.t.Helper()
	body := fmt.Sprintf(`{"schedule":[{"kind":%q,"count":%d}]}`, fault, n)
	res, err := insecure.Post(strings.TrimSuffix(s.base, "/v1")+"/sim/config", "application/json", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		s.t.Fatalf("/sim/config: %s", res.Status)
	}
}

func TestTranslateKeepsLinesInOrder(t *testing.T) {
	// Later lines are often answered before earlier ones.
	s := simulate(t, "--profile", "steady", "--latency", "20ms", "--rtt", "0s")
	var in, want strings.Builder
	for i := range 300 {
		switch {
		case i%10 == 3:
			in.WriteString("\n")
			want.WriteString("\n")
		case i%10 == 7:
			fmt.Fprintf(&in, "  Line %d with a Windows end.\r\n", i)
			fmt.Fprintf(&want, "  [es] Line %d with a Windows end.\r\n", i)
		default:
			fmt.Fprintf(&in, "This is line number %d.\n", i)
			fmt.Fprintf(&want, "[es] This is line number %d.\n", i)
		}
	}
	in.WriteString("The last line has no end.")
	want.WriteString("[es] The last line has no end.")

	config := write(t, pipeline(s, "pooled", ""))
	dir := filepath.Dir(config)
	if err := os.WriteFile(filepath.Join(dir, "in.txt"), []byte(in.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"file":           {"in.txt"},
		"standard input": nil,
		"dash":           {"-"},
	} {
		out, errs, status := commandHere(t, dir, nil, in.String(), append([]string{"translate", "--from", "en", "--to", "es"}, args...)...)
		if status != 0 || errs != "" || out != want.String() {
			t.Errorf("%s: status %d, errors %q, output differs: %v", name, status, errs, out != want.String())
		}
	}
	out, errs, status := commandHere(t, dir, nil, "", "translate", "--from", "en", "--to", "es", "in.txt", "in.txt")
	if status != 0 || errs != "" || out != want.String()+want.String() {
		t.Errorf("two files: status %d, errors %q", status, errs)
	}
}

func TestALineThatFailsStaysInItsPlaceAndIsReported(t *testing.T) {
	s := simulate(t)
	config := write(t, strings.Replace(pipeline(s, "pooled", ""), "{use: openai}", "{use: openai, retries: 0}", 1))
	s.failNext(openaitest.Refusal, 1)
	out, errs, status := commandHere(t, filepath.Dir(config), nil, "only this one\n", "translate", "--to", "es", "--from", "en")
	if status != 1 || out != "only this one\n" || !strings.HasPrefix(errs, "standard input:1: ") || !strings.Contains(errs, "provider_refused") || !strings.HasSuffix(errs, "1 of 1 lines were not translated\n") {
		t.Errorf("status %d, output %q, errors:\n%s", status, out, errs)
	}

	// What may still succeed is asked for again.
	s.failNext(openaitest.Error500, 1)
	out, errs, status = commandHere(t, filepath.Dir(config), nil, "ask again\n", "translate", "--to", "es", "--from", "en")
	if status != 0 || out != "[es] ask again\n" || errs != "" {
		t.Errorf("status %d, output %q, errors:\n%s", status, out, errs)
	}
}

func TestTranslateUsesTheProviderNamed(t *testing.T) {
	first, second := simulate(t), simulate(t)
	config := write(t, strings.Replace(pipeline(first, "pooled", `  second: {type: openai, base_url: "`+second.base+`", api_key: x}`), "{use: openai}", "{use: openai, fallback: [second]}", 1))
	out, errs, status := commandHere(t, filepath.Dir(config), nil, "hello\n", "translate", "--from", "en", "--to", "es", "--provider", "second")
	if status != 0 || out != "[es] hello\n" {
		t.Fatalf("status %d, output %q, errors:\n%s", status, out, errs)
	}
	one, _ := first.asked()
	two, _ := second.asked()
	if one != 0 || two != 1 {
		t.Errorf("the first was asked %d times, the second %d times", one, two)
	}
}

func TestACommandLineThatCannotBeUnderstoodIsStatus2(t *testing.T) {
	config := write(t, pipeline(simulate(t), "pooled", ""))
	for want, args := range map[string][]string{
		"--to is missing":      {"translate"},
		`--to: "zzz"`:          {"translate", "--to", "zzz"},
		`no provider "nobody"`: {"translate", "--to", "es", "--provider", "nobody"},
		"did you mean serve":   {"serv"},
		"--help":               {"serve", "--wrong"},
		"takes no arguments":   {"check", "other.yaml"},
	} {
		out, errs, status := commandHere(t, filepath.Dir(config), nil, "", args...)
		if status != 2 || out != "" || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: status %d, output %q, errors:\n%s", args, status, out, errs)
		}
	}
	_, errs, status := commandHere(t, filepath.Dir(config), nil, "", "translate", "--to", "es", "no-such-file.txt")
	if status != 1 || !strings.Contains(errs, "no-such-file.txt") {
		t.Errorf("status %d, errors:\n%s", status, errs)
	}
}

// TestAFilmTakesFewCallsOfAModel: its sentences share completions, its times stay, and no
// line is longer than asked.
func TestAFilmTakesFewCallsOfAModel(t *testing.T) {
	t.Parallel()
	s := simulate(t, "--latency", "1ms", "--rtt", "0s")
	config := write(t, strings.Replace(pipeline(s, "pooled", ""), "api_key:", "timeout: 30s, api_key:", 1))
	dir := filepath.Dir(config)
	var film strings.Builder
	for i := range 2000 {
		text := fmt.Sprintf("And this is what somebody says in cue %d.", i)
		if i%3 == 1 {
			text = fmt.Sprintf("This one, number %d, goes on", i)
		} else if i%3 == 2 {
			text = fmt.Sprintf("and ends here, in number %d.", i)
		}
		fmt.Fprintf(&film, "%d\n%02d:%02d:%02d,000 --> %02[2]d:%02[3]d:%02[4]d,900\n%s\n\n", i+1, i/3600, i/60%60, i%60, text)
	}
	if err := os.WriteFile(filepath.Join(dir, "film.srt"), []byte(film.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs, status := command(t, dir, nil, "", "translate", "--from", "en", "--to", "es", "--out", "film.{lang}{ext}", "--line-length", "40", "film.srt")
	if status != 0 {
		t.Fatalf("status %d, errors:\n%s", status, errs)
	}
	out, err := os.ReadFile(filepath.Join(dir, "film.es.srt"))
	if err != nil {
		t.Fatal(err)
	}
	was, is := strings.Split(film.String(), "\n\n"), strings.Split(string(out), "\n\n")
	if len(was) != len(is) {
		t.Fatalf("%d cues became %d", len(was), len(is))
	}
	for i := range was {
		if a, b := strings.SplitN(was[i], "\n", 3), strings.SplitN(is[i], "\n", 3); len(a) == 3 && (a[0] != b[0] || a[1] != b[1]) {
			t.Fatalf("cue %d: %q became %q", i, a[:2], b[:2])
		}
		for _, line := range strings.Split(is[i], "\n") {
			if len(line) > 40 {
				t.Errorf("a line of %d: %q", len(line), line)
			}
		}
	}
	if calls, _ := s.asked(); calls > 200 {
		t.Errorf("%d calls for 2,000 cues", calls)
	} else {
		t.Logf("%d calls for 2,000 cues", calls)
	}
}

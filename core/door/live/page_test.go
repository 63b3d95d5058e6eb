package live

import (
	"strings"
	"testing"

	"github.com/dragoman-mt/dragoman/core/door"
	"github.com/dragoman-mt/dragoman/core/door/doortest"
)

// What is typed and what is played appears in both languages; only what is concluded is
// announced; nobody but the gateway is asked.
func TestThePageShowsWhatIsConcludedAndWhatIsNot(t *testing.T) {
	g := serve(t, door.Defaults(), plain(), shout)
	b := doortest.OpenBrowser(t)
	b.Go(g.url + "/live")
	b.Eval(`document.getElementById("target1").value = "ar"`)
	b.Eval(`play("we begin with a long sentence that is said one word after another. Then it is over.", 60)`)
	b.Until(`document.querySelectorAll("section").length === 2`)
	b.Until(`[...document.querySelectorAll("[role=log]")].every(e => e.innerText.includes("ONE WORD AFTER ANOTHER./") && e.innerText.includes("THEN IT IS OVER./"))`)
	for script, want := range map[string]string{
		`document.querySelectorAll("[aria-live]").length`:                                                               "2",
		`document.querySelectorAll(".tentative[aria-live], .tentative [aria-live]").length`:                             "0",
		`[...document.querySelectorAll("[role=log]")].map(e => e.lang + ":" + e.dir).join()`:                            "es:ltr,ar:rtl",
		`document.querySelectorAll("[role=log] p").length`:                                                              "4",
		`[...document.querySelectorAll("input,textarea,button")].filter(e => !e.labels?.length && !e.innerText).length`: "0",
		`document.getElementById("speech").innerText.startsWith("Speaking is off")`:                                     "true",
	} {
		if got := b.Eval(script); got != want {
			t.Errorf("%s: %s, want %s", script, got, want)
		}
	}
	b.Eval(`(() => { const t = document.getElementById("text"); t.value = "so this is what somebody types here"; t.dispatchEvent(new Event("input")); })()`)
	b.Until(`[...document.querySelectorAll(".tentative")].every(e => e.innerText.includes("SO THIS"))`)
	b.LooksWell("live")
	b.Eval(`document.getElementById("stop").click()`)
	b.Until(`document.getElementById("status").innerText === "The session has ended."`)
	if got := b.Eval(`document.getElementById("measures").innerText`); !strings.Contains(got, "amplification") {
		t.Errorf("no summary: %s", got)
	}
	for _, u := range b.URLs {
		if !strings.HasPrefix(u, g.url) && !strings.HasPrefix(u, "about:") {
			t.Errorf("the page asked for %s", u)
		}
	}
}

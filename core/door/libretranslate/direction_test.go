package libretranslate

import (
	"testing"

	"github.com/dragoman-mt/dragoman/core"
)

func TestTheScriptOfALanguageSaysItsDirection(t *testing.T) {
	for tag, want := range map[core.Language]string{
		"en": "ltr", "ar": "rtl", "he": "rtl", "fa": "rtl", "ur": "rtl", "yi": "rtl", "ps": "rtl", "ckb": "rtl", "sd": "rtl", "ug": "rtl", "dv": "rtl",
		"pa": "ltr", "pa-Arab": "rtl", "az-Arab": "rtl", "ar-Latn": "ltr", "zh-Hant": "ltr", "zz": "ltr",
	} {
		if got := direction(tag); got != want {
			t.Errorf("%s: %s, want %s", tag, got, want)
		}
	}
}

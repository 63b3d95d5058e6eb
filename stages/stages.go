// Package stages lists the built-in kinds and does nothing else. A program of
// your own appends its kinds to this list.
package stages

import (
	"github.com/dragoman-mt/dragoman/core"
	"github.com/dragoman-mt/dragoman/stages/azure"
	"github.com/dragoman-mt/dragoman/stages/cache"
	"github.com/dragoman-mt/dragoman/stages/deepl"
	"github.com/dragoman-mt/dragoman/stages/google"
	"github.com/dragoman-mt/dragoman/stages/libretranslate"
	"github.com/dragoman-mt/dragoman/stages/openai"
	"github.com/dragoman-mt/dragoman/stages/postprocess"
	"github.com/dragoman-mt/dragoman/stages/protect"
	"github.com/dragoman-mt/dragoman/stages/provider"
	"github.com/dragoman-mt/dragoman/stages/queue"
	"github.com/dragoman-mt/dragoman/stages/ratelimit"
)

// Kinds returns every built-in kind, in the order in which a chain usually has
// them.
func Kinds() []core.Kind {
	return []core.Kind{
		cache.Kind(), ratelimit.Kind(), queue.Kind(), provider.Kind(), postprocess.Kind(), protect.Kind(),
		openai.Kind(), deepl.Kind(), libretranslate.Kind(), google.Kind(), azure.Kind(),
	}
}

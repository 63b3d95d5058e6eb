// Command mask-plugin serves the stage mask out of process.
package main

import (
	"github.com/dragoman-mt/dragoman/examples/mask"
	"github.com/dragoman-mt/dragoman/plugins/sdk"
)

func main() { sdk.Serve(mask.Kinds()...) }

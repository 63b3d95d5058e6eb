// Command dragoman is the gateway with the kinds that it is shipped with.
package main

import "github.com/dragoman-mt/dragoman/cmd/gateway"

func main() { gateway.Main() }

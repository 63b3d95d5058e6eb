package main

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"

	"github.com/dragoman-mt/dragoman/plugins/wire"
)

// TestTheGeneratedCodeIsWhatTheSourceSays needs no generator: what the code
// carries of the file is compared with the file.
func TestTheGeneratedCodeIsWhatTheSourceSays(t *testing.T) {
	t.Chdir("..")
	files, err := compile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, got := protodesc.ToFileDescriptorProto(files[0]), protodesc.ToFileDescriptorProto(wire.File_plugin_proto)
	want.SourceCodeInfo = nil // comments are not carried
	if !proto.Equal(want, got) {
		t.Errorf("plugin.proto says\n%v\nand the code\n%v\nrun make generate", want, got)
	}
}

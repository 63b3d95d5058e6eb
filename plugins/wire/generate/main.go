// Command generate writes the Go code of plugins/wire from plugin.proto, and the
// descriptors that the Python SDK builds its messages from. It compiles the file
// by itself, so that no protoc has to be installed, and runs the two generators
// at the versions that go.mod pins.
//
// Run it with `make generate`, in the folder plugins/wire.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const (
	source = "plugin.proto"
	python = "../sdk/python/dragoman_plugin.binpb"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// compile reads the source in the working directory.
func compile(ctx context.Context) (linker.Files, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{}),
		SourceInfoMode: protocompile.SourceInfoStandard, // comments
	}
	return compiler.Compile(ctx, source)
}

func run() error {
	files, err := compile(context.Background())
	if err != nil {
		return err
	}
	plugin, duration := protodesc.ToFileDescriptorProto(files[0]), protodesc.ToFileDescriptorProto(durationpb.File_google_protobuf_duration_proto)
	for _, generator := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		request, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
			FileToGenerate: []string{source},
			Parameter:      proto.String("paths=source_relative"),
			ProtoFile:      []*descriptorpb.FileDescriptorProto{duration, plugin},
		})
		if err != nil {
			return err
		}
		tool := exec.Command("go", "tool", generator)
		tool.Stdin, tool.Stderr = bytes.NewReader(request), os.Stderr
		answer, err := tool.Output()
		if err != nil {
			return fmt.Errorf("%s: %w", generator, err)
		}
		var response pluginpb.CodeGeneratorResponse
		if err := proto.Unmarshal(answer, &response); err != nil {
			return fmt.Errorf("%s: %w", generator, err)
		}
		if response.Error != nil {
			return fmt.Errorf("%s: %s", generator, *response.Error)
		}
		for _, f := range response.File {
			if err := os.WriteFile(f.GetName(), []byte(f.GetContent()), 0o644); err != nil {
				return err
			}
		}
	}
	return describe(duration, plugin)
}

// describe writes the set of everything that a plugin serves, without comments.
func describe(files ...*descriptorpb.FileDescriptorProto) error {
	files = append(files, protodesc.ToFileDescriptorProto(grpc_health_v1.File_grpc_health_v1_health_proto))
	for _, f := range files {
		f.SourceCodeInfo = nil
	}
	set, err := proto.MarshalOptions{Deterministic: true}.Marshal(&descriptorpb.FileDescriptorSet{File: files})
	if err != nil {
		return err
	}
	return os.WriteFile(python, set, 0o644)
}

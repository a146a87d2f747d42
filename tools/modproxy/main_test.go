package main

import (
	"reflect"
	"testing"
)

func TestModuleFiles(t *testing.T) {
	t.Parallel()
	files := []string{
		"LICENSE", "go.mod", "client.go", "internal/wire/wire.go",
		"storage/s3/go.mod", "storage/s3/s3.go", "storage/s3/check/go.mod",
		"storage/s3/check/check_test.go",
		"ingest/go.mod", "ingest/LICENSE", "ingest/queue/queue.go",
	}
	tests := []struct {
		name   string
		module string
		want   []file
	}{
		{
			name: "the root, without the modules below it", module: ".",
			want: []file{
				{"LICENSE", "LICENSE"},
				{"go.mod", "go.mod"},
				{"client.go", "client.go"},
				{"internal/wire/wire.go", "internal/wire/wire.go"},
			},
		},
		{
			name: "the root's licence is added", module: "storage/s3",
			want: []file{
				{"go.mod", "storage/s3/go.mod"},
				{"s3.go", "storage/s3/s3.go"},
				{"LICENSE", "LICENSE"},
			},
		},
		{
			name: "a licence of its own is kept", module: "ingest",
			want: []file{
				{"go.mod", "ingest/go.mod"},
				{"LICENSE", "ingest/LICENSE"},
				{"queue/queue.go", "ingest/queue/queue.go"},
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := moduleFiles(files, test.module); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

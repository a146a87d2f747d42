package ricloud_test

import (
	"context"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"iter"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// services yields each service of client, keyed by the name of its field.
func services(client *ricloud.Client) iter.Seq2[string, reflect.Value] {
	return func(yield func(string, reflect.Value) bool) {
		for field, value := range reflect.ValueOf(client).Elem().Fields() {
			if field.IsExported() && !yield(field.Name, value) {
				return
			}
		}
	}
}

// Every service method takes a context first and options last, and reports an error.
func TestServiceMethodsHaveOneShape(t *testing.T) {
	t.Parallel()
	client, err := ricloud.NewClient("token")
	require.NoError(t, err)

	for name, service := range services(client) {
		require.NotZero(t, service.NumMethod(), "%s has methods", name)
		for method := range service.Type().Methods() {
			name, signature := name+"."+method.Name, method.Type
			if name == "Results.Acknowledger" { // it sends no request itself
				continue
			}
			assert.Equal(t, reflect.TypeFor[context.Context](), signature.In(1), "%s takes a context first",
				name)
			assert.True(t, signature.IsVariadic(), "%s takes options last", name)
			options := signature.In(signature.NumIn() - 1)
			assert.Contains(t, []reflect.Type{
				reflect.TypeFor[[]ricloud.CallOption](), reflect.TypeFor[[]ricloud.DownloadOption](),
				reflect.TypeFor[[]ricloud.SaveOption](), reflect.TypeFor[[]ricloud.SaveAllOption](),
			}, options, "%s takes options last", name)

			result := signature.Out(signature.NumOut() - 1)
			if result.Kind() == reflect.Func { // an iterator: its second value is the error
				require.True(t, result.CanSeq2(), "%s returns an error or an iter.Seq2", name)
				result = result.In(0).In(1)
			}
			assert.Equal(t, reflect.TypeFor[error](), result, "%s reports an error", name)
		}
	}
}

// Every row of the operation table names a method of Client. Errors quote that name, so a reader
// can find the call.
func TestEveryOperationIsAMethod(t *testing.T) {
	t.Parallel()
	client, err := ricloud.NewClient("token")
	require.NoError(t, err)

	for _, op := range transport.Operations() {
		service, verb, _ := strings.Cut(op.Name, ".")
		field := reflect.ValueOf(client).Elem().FieldByName(service)
		require.True(t, field.IsValid(), "the client has the service of %s", op.Name)
		assert.True(t, field.MethodByName(verb).IsValid(), "the client has the method %s", op.Name)
	}
}

// Every service has an example with checked output.
func TestEveryServiceHasAnExample(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	var tests []*ast.File
	fset := token.NewFileSet()
	for _, name := range files {
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		require.NoError(t, err)
		tests = append(tests, file)
	}
	examples := map[string]bool{}
	for _, example := range doc.Examples(tests...) {
		receiver, _, _ := strings.Cut(example.Name, "_")
		examples[receiver] = examples[receiver] || example.Output != ""
	}

	client, err := ricloud.NewClient("token")
	require.NoError(t, err)
	for name, service := range services(client) {
		assert.True(t, examples[service.Type().Elem().Name()], "%s has an example with output", name)
	}
}

package ricloud_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	ricloud "github.com/reincubate/ricloud-go"
)

// zeroTypes holds the zero value of each exported type that has methods, by its name. True ones
// refuse every call with a *ParamError, also if they are nil.
func zeroTypes() (zero map[string]any, refuses map[string]bool) {
	zero, refuses = map[string]any{}, map[string]bool{}
	for _, v := range []any{
		&ricloud.Client{}, &ricloud.WebhookHandler{}, &ricloud.Acknowledger{},
	} {
		name := reflect.TypeOf(v).Elem().Name()
		zero[name], refuses[name] = v, name != "Acknowledger"
	}
	for _, service := range services(&ricloud.Client{}) {
		name := service.Type().Elem().Name()
		zero[name], refuses[name] = reflect.New(service.Type().Elem()).Interface(), true
	}
	for _, v := range []any{
		&ricloud.AcknowledgeError{}, &ricloud.CallError{}, &ricloud.DecodeError{},
		&ricloud.DownloadError{}, &ricloud.Error{}, &ricloud.FolderError{}, &ricloud.ParamError{},
		&ricloud.RecordError{}, &ricloud.StateError{}, &ricloud.StorageError{},
		new(ricloud.ErrorCode), &ricloud.Event{}, new(ricloud.ID), &ricloud.List[ricloud.User]{},
		&ricloud.MemoryDeduplicator{}, &ricloud.Permissions{}, &ricloud.PermissionsCreateParams{},
		&ricloud.PermissionsUpdateParams{}, &ricloud.Poll{}, &ricloud.PollCreateParams{},
		&ricloud.PollFailure{}, &ricloud.PollPayload{}, new(ricloud.PollState), new(ricloud.Raw),
		&ricloud.Result{}, &ricloud.Secret{}, new(ricloud.SessionState), &ricloud.Source{},
		&ricloud.StorageConfig{}, &ricloud.Subscription{}, new(ricloud.SubscriptionState),
		new(ricloud.TaskState), &ricloud.WebhookConfig{}, &ricloud.WebhookVerifier{},
	} {
		name, _, _ := strings.Cut(reflect.TypeOf(v).Elem().Name(), "[")
		zero[name] = v
	}
	return zero, refuses
}

// No method of a zero value panics. What needs a constructor says so.
func TestZeroValuesDoNotPanic(t *testing.T) {
	t.Parallel()
	zero, refuses := zeroTypes()
	for _, name := range typesWithMethods(t) {
		v, ok := zero[name]
		require.True(t, ok, "zeroTypes has %s", name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value := reflect.ValueOf(v)
			callAll(t, value, refuses[name])
			if refuses[name] {
				callAll(t, reflect.Zero(value.Type()), true)
			}
			assert.NotPanics(t, func() { _ = fmt.Sprintf("%v %+v", v, value.Elem()) })
		})
	}
}

// callAll calls every method of v.
func callAll(t *testing.T, v reflect.Value, refuses bool) {
	t.Helper()
	for method, call := range v.Methods() {
		if method.Name == "Format" { // Sprintf calls it
			continue
		}
		var args []reflect.Value
		for in := range call.Type().Ins() {
			if in.Kind() == reflect.String && strings.HasPrefix(method.Name, "Save") {
				args = append(args, reflect.ValueOf(t.TempDir()))
				continue
			}
			args = append(args, argument(t, in))
		}
		if call.Type().IsVariadic() {
			args = args[:len(args)-1]
		}
		assert.NotPanics(t, func() {
			for _, result := range call.Call(args) {
				if result.Kind() == reflect.Func && result.Type().CanSeq2() {
					for _, result = range result.Seq2() { // the last one counts
					}
				}
				if refuses && result.Type() == reflect.TypeFor[error]() {
					err, _ := reflect.TypeAssert[error](result)
					var refused *ricloud.ParamError
					require.ErrorAs(t, err, &refused, method.Name)
					assert.Contains(t, err.Error(), "is zero: make one with New", method.Name)
				}
			}
		}, method.Name)
	}
}

// noSink is never reached.
type noSink struct{}

func (noSink) Store(context.Context, ricloud.SinkFile) (ricloud.StoredFile, error) {
	return ricloud.StoredFile{}, nil
}

// argument returns an argument that a method of a value that works accepts.
func argument(t *testing.T, in reflect.Type) reflect.Value {
	t.Helper()
	credentials, err := ricloud.CredentialsFromKey("id", ricloud.NewSecret("key"))
	require.NoError(t, err)
	source := ricloud.SourceParams{User: "1", Type: ricloud.SourceMock, Identifier: "x"}
	result := &ricloud.Result{ID: "1"}
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0)}
	ctx := context.WithValue(t.Context(), http.ServerContextKey, server)
	for _, v := range []any{
		t.Context(), httptest.NewRecorder(), http.MethodGet, []byte("null"), result,
		ricloud.ID("1"),
		[]ricloud.ID{"1"},
		&ricloud.Event{ID: "1"}, &ricloud.Poll{ID: "1"},
		&ricloud.Client{}, func(context.Context, *ricloud.Event) error { return nil },
		httptest.NewRequestWithContext(ctx, http.MethodPost, "/1", http.NoBody),
		ricloud.SessionFindParams{Source: source, Since: time.Now()},
		ricloud.WebhookConfigEnsureParams{URL: "https://example.com/"},
		ricloud.StorageConfigEnsureParams{URL: "s3://b/p", Credentials: credentials},
		func(yield func(*ricloud.Result, error) bool) { yield(result, nil) },
		noSink{},
	} {
		of := reflect.TypeOf(v)
		if of == in || in.Kind() == reflect.Interface && in.NumMethod() > 0 && of.Implements(in) {
			return reflect.ValueOf(v)
		}
		if in.Kind() == reflect.Func && of.ConvertibleTo(in) {
			return reflect.ValueOf(v).Convert(in)
		}
	}
	switch in.Kind() {
	case reflect.Slice:
		return reflect.MakeSlice(in, 1, 1)
	default:
		return reflect.Zero(in)
	}
}

// typesWithMethods returns the names of the exported types of the package that have exported
// methods.
func typesWithMethods(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	found := map[string]bool{}
	fset := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			method, ok := decl.(*ast.FuncDecl)
			if ok && method.Recv != nil && method.Name.IsExported() {
				found[receiver(method.Recv.List[0].Type)] = true
			}
		}
	}
	var all []string
	for name := range found {
		if ast.IsExported(name) {
			all = append(all, name)
		}
	}
	return all
}

// receiver returns the name of a receiver's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

package ricloud_test

import (
	"context"
	"iter"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/reincubate/ricloud-go"
	"github.com/reincubate/ricloud-go/internal/transport"
)

// services yields each service of client by the name of its field.
func services(client *ricloud.Client) iter.Seq2[string, reflect.Value] {
	return func(yield func(string, reflect.Value) bool) {
		for field, value := range reflect.ValueOf(client).Elem().Fields() {
			if field.IsExported() && !yield(field.Name, value) {
				return
			}
		}
	}
}

// Every method of every service is called in the same way.
func TestServiceMethodsHaveOneShape(t *testing.T) {
	t.Parallel()
	client, err := ricloud.NewClient("token")
	require.NoError(t, err)

	for name, service := range services(client) {
		require.NotZero(t, service.NumMethod(), "%s has methods", name)
		for method := range service.Type().Methods() {
			name, signature := name+"."+method.Name, method.Type
			assert.Equal(t, reflect.TypeFor[context.Context](), signature.In(1), "%s takes a context first", name)
			assert.True(t, signature.IsVariadic(), "%s takes options last", name)
			assert.Equal(t, reflect.TypeFor[[]ricloud.CallOption](), signature.In(signature.NumIn()-1), "%s takes options last", name)

			result := signature.Out(signature.NumOut() - 1)
			if result.Kind() == reflect.Func { // an iterator: its second value is the error
				require.True(t, result.CanSeq2(), "%s returns an error or an iter.Seq2", name)
				result = result.In(0).In(1)
			}
			assert.Equal(t, reflect.TypeFor[error](), result, "%s reports an error", name)
		}
	}
}

// Every row of the operation table is a method of the client by the row's
// name, and that method sends the row's request.
func TestEveryOperationIsSentByItsMethod(t *testing.T) {
	t.Parallel()
	for _, op := range transport.Operations() {
		t.Run(op.Name, func(t *testing.T) {
			t.Parallel()
			var sent *http.Request
			api := httpmock.NewMockTransport()
			api.RegisterNoResponder(func(r *http.Request) (*http.Response, error) {
				sent = r
				return httpmock.NewJsonResponse(http.StatusOK, map[string]string{"id": "1"})
			})
			client, err := ricloud.NewClient("token", ricloud.WithTransport(api))
			require.NoError(t, err)

			service, verb, _ := strings.Cut(op.Name, ".")
			method := reflect.ValueOf(client).Elem().FieldByName(service).MethodByName(verb)
			require.True(t, method.IsValid(), "the client has the method")
			args := []reflect.Value{reflect.ValueOf(t.Context())}
			for i := 1; i < method.Type().NumIn()-1; i++ {
				args = append(args, filled(t, method.Type().In(i)))
			}
			out := method.Call(args)

			failure, _ := reflect.TypeAssert[error](out[len(out)-1])
			require.NoError(t, failure)
			require.NotNil(t, sent, "the method sends a request")
			assert.Equal(t, op.Method, sent.Method)
			assert.Equal(t, strings.ReplaceAll(op.Path, "{id}", "a%2Fb"), sent.URL.EscapedPath(), "ids are escaped")
			assert.Equal(t, "Token token", sent.Header.Get("Authorization"))
		})
	}
}

// filled makes a value of typ that passes validation: an ID that needs
// escaping, and text that serves as a URL as well.
func filled(t *testing.T, typ reflect.Type) reflect.Value {
	t.Helper()
	v := reflect.New(typ).Elem()
	switch {
	case typ == reflect.TypeFor[ricloud.ID]():
		v.SetString("a/b")
	case typ == reflect.TypeFor[ricloud.PollCreateParams](): // its fields exclude one another
		v.Set(reflect.ValueOf(ricloud.PollCreateParams{
			Session: "1",
			Payload: ricloud.PollPayload{InfoTypes: []string{"*"}},
		}))
	case typ.Kind() == reflect.String:
		v.SetString("https://example.com/hook")
	case typ.Kind() == reflect.Struct:
		for field, value := range v.Fields() {
			if field.IsExported() {
				value.Set(filled(t, field.Type))
			}
		}
	case typ.Kind() == reflect.Slice:
		v.Set(reflect.Append(v, filled(t, typ.Elem())))
	case typ.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(typ))
		v.SetMapIndex(filled(t, typ.Key()), filled(t, typ.Elem()))
	case typ.Kind() == reflect.Pointer:
		v.Set(reflect.New(typ.Elem()))
		v.Elem().Set(filled(t, typ.Elem()))
	}
	return v
}

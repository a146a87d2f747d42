package watch

import "reflect"

// Clone returns a copy of r that shares no slice, map or pointer with it, at any
// depth of its exported fields.
func Clone[R any](r *R) *R {
	c := *r
	detach(reflect.ValueOf(&c).Elem())
	return &c
}

// detach replaces everything that v shares with another value by copies.
func detach(v reflect.Value) {
	if !v.CanSet() {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() { //nolint:modernize // Fields allocates: see BenchmarkWait
			detach(v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			detach(v.Index(i))
		}
	case reflect.Slice:
		if v.IsNil() {
			return
		}
		c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(c, v)
		v.Set(c)
		if !flat(v.Type().Elem().Kind()) {
			for i := range v.Len() {
				detach(v.Index(i))
			}
		}
	case reflect.Map:
		if v.IsNil() {
			return
		}
		c := reflect.MakeMapWithSize(v.Type(), v.Len())
		for key, value := range v.Seq2() {
			item := reflect.New(value.Type()).Elem()
			item.Set(value)
			detach(item)
			c.SetMapIndex(key, item)
		}
		v.Set(c)
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return
		}
		detachPointer(v)
	default:
	}
}

func detachPointer(v reflect.Value) {
	c := reflect.New(v.Elem().Type()).Elem()
	c.Set(v.Elem())
	detach(c)
	if v.Kind() == reflect.Pointer {
		v.Set(c.Addr())
	} else {
		v.Set(c)
	}
}

// flat reports whether values of a kind share nothing.
func flat(k reflect.Kind) bool {
	return k <= reflect.Complex128 || k == reflect.String
}

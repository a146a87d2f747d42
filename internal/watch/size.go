package watch

import "reflect"

// size returns about how many bytes of memory r holds.
func size[R any](r *R) int {
	v := reflect.ValueOf(r).Elem()
	return int(v.Type().Size()) + held(v)
}

// held returns the bytes that v holds besides its own. It follows no pointer that is
// not exported: another value, or the time package, has it.
func held(v reflect.Value) (n int) {
	switch v.Kind() {
	case reflect.String:
		return v.Len()
	case reflect.Struct:
		for i := range v.NumField() { //nolint:modernize // as in detach
			n += held(v.Field(i))
		}
	case reflect.Slice:
		n = v.Cap() * int(v.Type().Elem().Size())
		n += heldByItems(v)
	case reflect.Array:
		n = heldByItems(v)
	case reflect.Map:
		for key, value := range v.Seq2() {
			n += int(key.Type().Size()+value.Type().Size()) + held(key) + held(value)
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() && v.CanInterface() {
			n = int(v.Elem().Type().Size()) + held(v.Elem())
		}
	default:
	}
	return n
}

func heldByItems(v reflect.Value) (n int) {
	if v.Type().Elem().Kind() <= reflect.Complex128 {
		return 0
	}
	for i := range v.Len() {
		n += held(v.Index(i))
	}
	return n
}

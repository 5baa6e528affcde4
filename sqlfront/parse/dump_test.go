package parse

import (
	"fmt"
	"reflect"
	"sort"
	"strings"

	"github.com/copradb/copra/sqlfront/ast"
)

// dump writes a tree as nested (Type field=value …) with @position, leaving
// out empty fields.
func dump(v any) string {
	var b strings.Builder
	dumpValue(&b, reflect.ValueOf(v))
	return b.String()
}

func dumpValue(b *strings.Builder, v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			b.WriteString("nil")
			return
		}
		dumpValue(b, v.Elem())
	case reflect.Struct:
		dumpStruct(b, v)
	case reflect.Slice:
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(' ')
			}
			dumpValue(b, v.Index(i))
		}
		b.WriteByte(']')
	case reflect.Map:
		keys := v.MapKeys()
		sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
		b.WriteByte('{')
		for _, k := range keys {
			fmt.Fprintf(b, "%s:", k.String())
			dumpValue(b, v.MapIndex(k))
			b.WriteByte(' ')
		}
		b.WriteByte('}')
	case reflect.String:
		fmt.Fprintf(b, "%q", v.String())
	default:
		fmt.Fprint(b, v.Interface())
	}
}

func dumpStruct(b *strings.Builder, v reflect.Value) {
	b.WriteString("(" + v.Type().Name())
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		if f.IsZero() {
			continue
		}
		if pos, ok := f.Interface().(ast.Pos); ok && name == "Pos" {
			fmt.Fprintf(b, "@%d", pos)
			continue
		}
		fmt.Fprintf(b, " %s=", name)
		dumpValue(b, f)
	}
	b.WriteByte(')')
}

// walk calls fn for every node below v.
func walk(v reflect.Value, fn func(any)) {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			if v.CanInterface() {
				fn(v.Interface())
			}
			walk(v.Elem(), fn)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			walk(v.Field(i), fn)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), fn)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			walk(v.MapIndex(k), fn)
		}
	}
}

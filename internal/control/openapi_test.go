package control

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
)

var update = flag.Bool("update", false, "write docs/formats/openapi.json")

const openAPIFile = "../../docs/formats/openapi.json"

func TestTheDescriptionIsTheOneInTheDocuments(t *testing.T) {
	got, err := json.MarshalIndent(Describe(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(openAPIFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(openAPIFile); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the requests are (%v); write it with: go test ./internal/control -run Description -update", openAPIFile, err)
	}
}

// Every Endpoint of protocol.go is described, and stands in docs/formats/control.md.
func TestEveryRequestIsDescribed(t *testing.T) {
	page, err := os.ReadFile("../../docs/formats/control.md")
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "protocol.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		lit, ok := node.(*ast.CompositeLit)
		if !ok {
			return true
		}
		if index, ok := lit.Type.(*ast.IndexListExpr); ok && index.X.(*ast.Ident).Name == "Endpoint" {
			n++
		}
		return true
	})
	if n != len(described) {
		t.Errorf("protocol.go has %d requests, %d are described", n, len(described))
	}
	seen := map[string]bool{}
	for _, d := range described {
		request := d.method + " " + d.path
		if seen[request] || d.summary == "" {
			t.Errorf("%s: twice, or without a summary", request)
		}
		seen[request] = true
		if !strings.Contains(string(page), "`"+request+"`") {
			t.Errorf("docs/formats/control.md has no `%s`", request)
		}
		who := "root"
		if d.reads {
			who = "group"
		}
		if !strings.Contains(string(page), "| `"+request+"` | "+who+" |") {
			t.Errorf("docs/formats/control.md does not say that `%s` is for %s", request, who)
		}
	}
}

// What is written as JSON is what the description says.
func TestTheDescriptionFitsWhatIsSent(t *testing.T) {
	doc := Describe()
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	for _, d := range described {
		for _, typ := range []reflect.Type{d.request, d.reply} {
			if typ == reflect.TypeFor[Document]() {
				continue
			}
			for _, filled := range []bool{true, false} {
				v := reflect.New(typ).Elem()
				if filled {
					fill(v)
				}
				text, err := json.Marshal(v.Interface())
				if err != nil {
					t.Fatal(err)
				}
				var sent any
				if err := json.Unmarshal(text, &sent); err != nil {
					t.Fatal(err)
				}
				if why := fits(schemas, schema(map[string]any{}, typ), sent, filled); why != "" {
					t.Errorf("%s: %s: %s", d.path, typ, why)
				}
			}
		}
	}
}

// fill makes a value of which nothing is left out.
func fill(v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1e9, 0)))
		return
	case bantam.ID:
		v.Set(reflect.ValueOf(bantam.TextID("x")))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1.5)
	default:
		if v.CanUint() {
			v.SetUint(1)
		} else {
			v.SetInt(1)
		}
	}
}

// fits says why a value is not what a schema says, or nothing. With all, all its properties are there.
func fits(schemas, s map[string]any, v any, all bool) string {
	if ref, ok := s["$ref"].(string); ok {
		s = schemas[strings.TrimPrefix(ref, "#/components/schemas/")].(map[string]any)
	}
	types, _ := s["type"].([]any)
	if one, ok := s["type"].(string); ok {
		types = []any{one}
	}
	kind := ""
	switch v := v.(type) {
	case nil:
		kind = "null"
	case bool:
		kind = "boolean"
	case string:
		kind = "string"
	case float64:
		if kind = "number"; slices.Contains(types, any("integer")) && v == float64(int64(v)) {
			kind = "integer"
		}
	case []any:
		kind = "array"
		for _, item := range v {
			if why := fits(schemas, s["items"].(map[string]any), item, all); why != "" {
				return "an item: " + why
			}
		}
	case map[string]any:
		kind = "object"
		properties, _ := s["properties"].(map[string]any)
		for key, item := range v {
			of, ok := properties[key].(map[string]any)
			if !ok {
				if of, ok = s["additionalProperties"].(map[string]any); !ok {
					return "it has no " + key
				}
			}
			if why := fits(schemas, of, item, all); why != "" {
				return key + ": " + why
			}
		}
		for key := range properties {
			if _, there := v[key]; all && !there {
				return "nothing is sent as " + key
			}
		}
	}
	if !slices.Contains(types, any(kind)) {
		return fmt.Sprintf("%v is sent, and not %v", kind, types)
	}
	return ""
}

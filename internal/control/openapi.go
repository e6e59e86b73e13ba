package control

import (
	"encoding"
	"reflect"
	"strings"
	"time"

	"bantam"
)

// A Document describes the API in the form of OpenAPI 3.1 (spec.openapis.org/oas/v3.1.0).
type Document map[string]any

// A description is an Endpoint without its types' names.
type description struct {
	method, path, summary string
	reads, stream         bool
	request, reply        reflect.Type
}

// described are all requests, in the order of the document.
var described []description

func init() {
	describe(Ping)
	describe(GetStatus)
	describe(GetBans)
	describe(GetHistory)
	describe(GetFailing)
	describe(Watch)
	describe(Ban)
	describe(Unban)
	describe(Why)
	describe(Judge)
	describe(Import)
	describe(GetAllow)
	describe(Allow)
	describe(Disallow)
	describe(Reload)
	describe(Enforce)
	describe(Stop)
	describe(GetChannels)
	describe(TestChannel)
	describe(Letter)
	describe(GetReports)
	describe(PreviewReport)
	describe(SendReport)
	describe(GetOpenAPI)
}

func describe[Request, Reply any](e Endpoint[Request, Reply]) {
	described = append(described, description{e.Method, e.Path, e.Summary, e.Reads, any(e) == any(Watch), reflect.TypeFor[Request](), reflect.TypeFor[Reply]()})
}

// Describe makes the Document of all requests out of what they carry.
func Describe() Document {
	schemas := map[string]any{}
	paths := map[string]any{}
	for _, e := range described {
		who := "root"
		if e.reads {
			who = "root, and the members of the group apigroup"
		}
		operation := map[string]any{
			"summary":     e.summary,
			"description": "For " + who + ".",
			"responses": map[string]any{
				"200":     content("The answer", schemas, e.reply),
				"default": content("Why not, and a way on", schemas, reflect.TypeFor[Error]()),
			},
		}
		if e.stream {
			answers := operation["responses"].(map[string]any)["200"].(map[string]any)
			answers["content"] = map[string]any{Stream: map[string]any{"schema": schema(schemas, e.reply)}}
		}
		if e.request != reflect.TypeFor[None]() {
			operation["requestBody"] = content("", schemas, e.request)
		}
		methods, _ := paths[e.path].(map[string]any)
		if methods == nil {
			methods = map[string]any{}
			paths[e.path] = methods
		}
		methods[strings.ToLower(e.method)] = operation
	}
	return Document{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "Bantam", "version": bantam.Version,
			"description": "The API on the daemon's unix socket.",
		},
		"servers":    []any{map[string]any{"url": "http://bantam"}},
		"paths":      paths,
		"components": map[string]any{"schemas": schemas},
	}
}

// content is a body of JSON.
func content(what string, schemas map[string]any, t reflect.Type) map[string]any {
	c := map[string]any{"content": map[string]any{"application/json": map[string]any{"schema": schema(schemas, t)}}}
	if what != "" {
		c["description"] = what
	}
	return c
}

// schema is what a value of a type looks like as JSON; structs are put into schemas by name.
func schema(schemas map[string]any, t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schema(schemas, t.Elem())
	case reflect.Slice:
		return map[string]any{"type": []any{"array", "null"}, "items": schema(schemas, t.Elem())}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return map[string]any{"type": "object"}
		}
		return map[string]any{"type": "object", "additionalProperties": schema(schemas, t.Elem())}
	case reflect.Struct:
		name := name(t)
		if _, known := schemas[name]; !known {
			properties := map[string]any{}
			schemas[name] = map[string]any{"type": "object", "properties": properties}
			fields(schemas, properties, t)
		}
		return map[string]any{"$ref": "#/components/schemas/" + name}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	}
	return map[string]any{"type": "integer"}
}

// name tells the types of all packages apart; those of this one and of the root go by their own.
func name(t reflect.Type) string {
	pkg := t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:]
	if pkg == "control" || pkg == "bantam" {
		return t.Name()
	}
	return strings.ToUpper(pkg[:1]) + pkg[1:] + t.Name()
}

// fields are the properties of a struct as encoding/json writes them.
func fields(schemas, properties map[string]any, t reflect.Type) {
	for f := range t.Fields() {
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && tag == "":
			fields(schemas, properties, f.Type)
		case tag == "-" && options == "", !f.IsExported():
		case tag == "":
			properties[f.Name] = schema(schemas, f.Type)
		default:
			properties[tag] = schema(schemas, f.Type)
		}
	}
}

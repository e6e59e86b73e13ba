package secret

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// shortest is the shortest encoded form that Scrub takes for a secret. A shorter
// one would be found in innocent words.
const shortest = 5

// Scrub takes secrets out of a text that comes from elsewhere, such as an error of a server that
// repeats what it was sent, and puts *** there. It knows them as they are, quoted, escaped
// for addresses and JSON, and in base64, also as part of something longer, as in a login by PLAIN.
func Scrub(text string, values ...Value) string {
	var forms []string
	for _, v := range values {
		if v.kept == nil {
			continue
		}
		for _, s := range slices.Compact([]string{(*v.kept).text, v.Reveal()}) {
			forms = append(forms, s)
			for _, form := range encoded(s) {
				if len(form) >= shortest {
					forms = append(forms, form)
				}
			}
		}
	}
	// The longest first: what is left of a longer form must not be found as a shorter one.
	slices.SortFunc(forms, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, form := range slices.Compact(forms) {
		text = strings.ReplaceAll(text, form, "***")
	}
	return text
}

// encoded are the forms in which a text may show, beside its own.
func encoded(s string) []string {
	quoted := strconv.Quote(s)
	inJSON, _ := json.Marshal(s) // strings always work
	forms := []string{
		url.QueryEscape(s), url.PathEscape(s), quoted[1 : len(quoted)-1], string(inJSON[1 : len(inJSON)-1]),
	}
	// Within something longer, base64 looks otherwise by how many bytes come before. The characters
	// at both ends hold bits of the neighbours and are left out, unless there are none.
	for before := range 3 {
		n := before + len(s)
		whole := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", before) + s))
		inner := whole[[]int{0, 2, 3}[before] : n/3*4+[]int{0, 1, 2}[n%3]]
		forms = append(forms, inner, alphabet.Replace(inner))
		if before == 0 {
			forms = append(forms, whole, alphabet.Replace(whole))
		}
	}
	return forms
}

// alphabet makes of base64 the form that is safe in addresses.
var alphabet = strings.NewReplacer("+", "-", "/", "_")

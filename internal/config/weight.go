package config

import (
	"fmt"
	"slices"
	"strings"

	"bantam/internal/jail"
)

// weights reads for how many failures one counts, by the expression that matched it.
func (r *jailReader) weights() (out map[int]int) {
	v, text := r.get("weight")
	if v == nil {
		return nil
	}
	const hint = "write 2:3 4:2: the second failregex counts for three, the fourth for two"
	for _, word := range listed(text) {
		number, weight, ok := strings.Cut(word, ":")
		regex, err := integer(number)
		if err != nil || !ok || regex < 1 {
			r.fail(problemAt(v, fmt.Sprintf("%s is not NUMBER:WEIGHT with the number of a failregex from 1 on", quote(word)), hint))
			return nil
		}
		n, err := integer(weight)
		if err != nil || n < 1 || n > jail.MaxWeight {
			r.fail(problemAt(v, fmt.Sprintf("%s: the weight must be a number from 1 to %d", quote(word), jail.MaxWeight), hint))
			return nil
		}
		if _, twice := out[regex]; twice {
			r.fail(problemAt(v, fmt.Sprintf("failregex %d has two weights", regex), "write each number once"))
			return nil
		}
		if has := len(r.jail.Filter.Failregex); regex > has {
			r.warn(problemAt(v, fmt.Sprintf("%s: there is no failregex %d; the jail has %d", quote(word), regex, has), "bantam regex shows them with their numbers"))
		}
		if out == nil {
			out = map[int]int{}
		}
		out[regex] = n
	}
	return out
}

// distinct reads what failures must differ in to count.
func (r *jailReader) distinct() bool {
	v, text := r.get("distinct")
	if v == nil || trim(text) == "" {
		return false // an empty value takes the option away
	}
	if text = trim(text); text != "user" {
		hint := commentHint(text, v)
		if hint == "" {
			hint = "write user, or leave it empty"
		}
		r.fail(problemAt(v, fmt.Sprintf("%s is nothing that can be counted", quote(text)), hint))
		return false
	}
	c := &r.jail.Filter
	if !slices.ContainsFunc(append(slices.Clone(c.Failregex), c.Prefregex), namesUser) && len(c.Failregex) > 0 {
		r.warn(problemAt(v, "no failregex of the jail names a user: all failures of an address count as one", "<F-USER>…</F-USER> says where the user stands in a line"))
	}
	return true
}

// namesUser reports whether an expression captures a user, by Python's way of naming a group or by the tags that stand
// for it.
func namesUser(expr string) bool {
	return slices.ContainsFunc([]string{"<F-USER>", "(?P<user>", "<F-ALT_USER", "(?P<alt_user"}, func(word string) bool {
		return strings.Contains(strings.ToLower(expr), strings.ToLower(word))
	})
}

package filter

import "bantam/pyre"

// sampleEvery is how many lines there are to one that is judged with every expression,
// whatever the set says: so a fault in the set does not stay unknown.
const sampleEvery = 4093

// A ref is what a rule of a view's set is about: a failregex by its index, or no more
// than that the jail has to look at the line.
type ref struct {
	judge *judge
	fail  int // -1 for none
}

// build makes the set of everything that a line can match.
func (v *view) build() {
	var rules []pyre.Rule
	known := make(map[pyre.Rule]int) // jails may share expressions
	add := func(j *judge, fail int, rule pyre.Rule) {
		i, ok := known[rule]
		if !ok {
			i = len(rules)
			known[rule] = i
			rules, v.refs = append(rules, rule), append(v.refs, nil)
		}
		v.refs[i] = append(v.refs[i], ref{j, fail})
	}
	for _, j := range v.jails {
		for i := range j.fail {
			j.all = append(j.all, i)
		}
		if j.config.MaxLines > 1 {
			continue // a line alone does not tell what several match
		}
		for i := range j.fail {
			add(j, i, j.rule(i))
		}
		if j.prefix != nil && v.prefixes {
			add(j, -1, pyre.Rule{Regexp: j.prefix.re})
		}
		if j.early && v.written {
			for _, ignore := range j.ignore {
				add(j, -1, pyre.Rule{Regexp: ignore.re})
			}
		}
	}
	v.set = pyre.NewSet(rules)
}

// call finds which jails have to look at the line at hand, and which of their
// expressions might match it. For most lines that is none, and nothing is copied.
func (v *view) call() bool {
	if v.set == nil {
		v.build()
	}
	v.may = v.set.Candidates(v.may[:0], v.left, v.right)
	v.lines++
	sample := v.lines == sampleEvery
	if sample {
		v.lines = 0
	}
	if len(v.may) == 0 && !v.several && !sample {
		return false
	}
	if v.raw && v.settle() {
		v.may = v.set.Candidates(v.may[:0], v.left, v.right)
	}
	v.text = append(append(append(v.text[:0], v.left...), v.right...), '\n')
	for _, j := range v.jails {
		j.called, j.likely = false, j.likely[:0]
	}
	for _, i := range v.may {
		for _, r := range v.refs[i] {
			r.judge.called = true
			if r.fail >= 0 {
				r.judge.likely = append(r.judge.likely, r.fail)
			}
		}
	}
	for _, j := range v.jails {
		j.may, j.sampled = j.likely, sample
		if sample || j.config.MaxLines > 1 {
			j.called, j.may = true, j.all
		}
	}
	return true
}

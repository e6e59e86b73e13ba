package filter

// An engine compiles Python's regular expressions.
type engine interface {
	// compile reads an expression in the syntax of Python's re. With multiline ^ and $
	// match at each line of the text. The error names the construct that is wrong or
	// cannot be done.
	compile(expr string, multiline bool) (expression, error)
}

// An expression is a compiled one. It may be used by several goroutines at once.
type expression interface {
	// groups are the names of the groups by index; 0 is the whole match, and a
	// group without a name is "".
	groups() []string
	// find searches text, valid UTF-8 that ends with a line end, as Python's
	// re.search does. It returns the start and end of each group, -1 for one that
	// took no part, appended to spans; nil means no match. Time is linear in text.
	find(text []byte, spans []int) []int
}

// theEngine is what filters are compiled with.
var theEngine engine = re2{}

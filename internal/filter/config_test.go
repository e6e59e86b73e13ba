package filter_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"bantam/internal/config"
	"bantam/internal/filter"
)

// Ours: the jail with the parameter is refused, the others with the filter are not.
func TestTrap15_AParameterReplacesTheNameOfAGroup(t *testing.T) {
	tree := fstest.MapFS{"filter.d/t.conf": {Data: []byte("[Definition]\nfailregex = ^(?P<user>x) <HOST>\n")}}
	c, err := config.LoadFilter(tree, "t", map[string]string{"user": "abc"})
	if err != nil {
		t.Fatal(err)
	}
	if want := "^(?Pabcx) <HOST>"; len(c.Failregex) != 1 || c.Failregex[0] != want {
		t.Errorf("the expression is %q, want %q", c.Failregex, want)
	}
	if _, err := filter.Compile(c); err == nil || !strings.Contains(err.Error(), `failregex 1: unknown extension ?Pa at "?Pabcx) `) {
		t.Errorf("error %v, want one that shows the place", err)
	}
	if c, err = config.LoadFilter(tree, "t", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := filter.Compile(c); err != nil {
		t.Errorf("without the parameter: %v", err)
	}
}

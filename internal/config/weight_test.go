package config

import (
	"maps"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWeightAndDistinct(t *testing.T) {
	jail := "-- jail.conf --\n[t]\nenabled = true\nlogpath = /l\nbackend = polling\naction = log[file=/dev/null]\nfailregex = ^bad <F-USER>\\S+</F-USER> <HOST>$\n            ^worse <HOST>$\n"
	nameless := strings.Replace(jail, "<F-USER>\\S+</F-USER> ", "", 1)
	for _, c := range []struct {
		name, jail, option string
		weights            map[int]int
		distinct           bool
		problem            string // "" for none
		warning            bool
	}{
		{name: "nothing", jail: jail},
		{name: "weights", jail: jail, option: "weight = 2:3, 1:2", weights: map[int]int{1: 2, 2: 3}},
		{name: "different users", jail: jail, option: "distinct = user", distinct: true},
		{name: "taken away", jail: jail, option: "distinct =\nweight ="},
		{name: "an expression that is not there", jail: jail, option: "weight = 3:2", weights: map[int]int{3: 2}, problem: `"3:2": there is no failregex 3; the jail has 2`, warning: true},
		{name: "no expression names a user", jail: nameless, option: "distinct = user", distinct: true, problem: "no failregex of the jail names a user", warning: true},
		{name: "no weight", jail: jail, option: "weight = 2", problem: `"2" is not NUMBER:WEIGHT`},
		{name: "a number too small", jail: jail, option: "weight = 0:2", problem: `"0:2" is not NUMBER:WEIGHT`},
		{name: "a weight that lets pass", jail: jail, option: "weight = 2:0", problem: `"2:0": the weight must be a number from 1 to`},
		{name: "a weight that is none", jail: jail, option: "weight = 2:x", problem: `"2:x": the weight must be a number`},
		{name: "a blank inside", jail: jail, option: "weight = 2: 3", problem: `"2:": the weight must be a number`},
		{name: "two weights", jail: jail, option: "weight = 2:3 2:4", problem: "failregex 2 has two weights"},
		{name: "different what", jail: jail, option: "distinct = host", problem: `"host" is nothing that can be counted`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := load(t, c.jail+c.option+"\n")
			j := cfg.Jails[0]
			if c.problem == "" && len(cfg.Problems) > 0 || c.problem != "" && (len(cfg.Problems) != 1 || !strings.HasPrefix(cfg.Problems[0].Text, c.problem) ||
				cfg.Problems[0].Warning != c.warning || cfg.Problems[0].Line == 0 || cfg.Problems[0].Hint == "") {
				t.Errorf("the problems are %v, want %q", cfg.Problems, c.problem)
			}
			if (j.Err != nil) != (c.problem != "" && !c.warning) {
				t.Errorf("the jail's error is %v", j.Err)
			}
			if !maps.Equal(j.Jail.Weights, c.weights) || j.Jail.Distinct != c.distinct {
				t.Errorf("weights %v, different users %v", j.Jail.Weights, j.Jail.Distinct)
			}
		})
	}
}

func FuzzWeight(f *testing.F) {
	f.Add("2:3 1:2")
	f.Add("9999999999999999999:1")
	f.Add("2:-1, ::")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1000 || strings.ContainsAny(text, "\r\n") || !utf8.ValidString(text) { // no file is
			t.Skip()
		}
		cfg := load(t, "-- jail.conf --\n[t]\nenabled = true\nlogpath = /l\nfailregex = ^bad <HOST>$\nweight = "+text+"\n")
		for _, j := range cfg.Jails {
			if err := j.Jail.Validate(); err != nil && j.Err == nil {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}

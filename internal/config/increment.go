package config

import (
	"errors"
	"strings"
	"time"

	"bantam/internal/jail"
)

const formulaHint = "write it as Python would: ban.Time * (1 << min(ban.Count, 20)) * banFactor; a % is written %%"

// increment reads how bans grow longer. What is wrong sets the jail aside if they
// are to grow, and is a warning if not.
func (r *jailReader) increment(c *jail.Config) {
	i := &c.Increment
	i.Enabled = r.boolean("bantime.increment", false)
	i.OverallJails = r.boolean("bantime.overalljails", false)
	wrong := r.warn
	if i.Enabled {
		wrong = r.fail
	}
	i.Factor = r.formula("bantime.factor", "write a number, as in 2 or 24 * 60", wrong)
	i.Formula = r.formula("bantime.formula", formulaHint, wrong)
	if v, text := r.get("bantime.multipliers"); v != nil {
		for word := range strings.FieldsSeq(text) {
			n, err := integer(word)
			if err != nil {
				hint := commentHint(text, v)
				if hint == "" {
					hint = "write whole numbers with a blank between them: 1 5 30 60 300"
				}
				wrong(problemAt(v, err.Error(), hint))
				break
			}
			i.Multipliers = append(i.Multipliers, n)
		}
	}
	for _, option := range []struct {
		key  string
		into *time.Duration
	}{{"bantime.maxtime", &i.MaxTime}, {"bantime.rndtime", &i.RndTime}} {
		v, text := r.get(option.key)
		if v == nil || trim(text) == "" {
			continue // an empty value takes the option away
		}
		f, err := seconds(text)
		if err != nil {
			wrong(problemAt(v, err.Error(), timeHint(text, v)))
			continue
		}
		d, fits := duration(f)
		switch {
		case f < 0, d == 0 && fits && option.key == "bantime.maxtime":
			wrong(problemAt(v, "the time must be more than zero", "leave it empty for none"))
		case fits:
			*option.into = d
		case option.key == "bantime.rndtime":
			wrong(problemAt(v, "the time is longer than 292 years", unitHint))
		}
	}
	if !i.Enabled || r.jail.Err != nil {
		return
	}
	var option *jail.OptionError
	if err := i.Validate(c.BanTime); errors.As(err, &option) {
		v := r.scope.set.raw(r.jail.Name, option.Option)
		if v == nil {
			v = r.scope.set.raw(r.jail.Name, "bantime.increment")
		}
		r.fail(problemAt(v, option.Err.Error(), ""))
	} else if err != nil {
		r.failed(nil, err)
	}
}

// formula reads an expression; nil if there is none or it is wrong.
func (r *jailReader) formula(key, hint string, wrong func(*Problem)) *jail.Formula {
	v, text := r.get(key)
	if v == nil || trim(text) == "" {
		return nil
	}
	f, err := jail.ParseFormula(trim(text))
	if err != nil {
		wrong(problemAt(v, err.Error()+": "+quote(trim(text)), hint))
		return nil
	}
	return f
}

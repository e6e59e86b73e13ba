package machine

import (
	"testing"
	"time"
)

func TestTry(t *testing.T) {
	var m Machine
	a, err := m.Addresses()
	t.Log(a, err)
	g, err := m.Gateways()
	t.Log(g, err)
	r, err := m.Resolvers()
	t.Log(r, err)
	start := time.Now()
	s, err := m.Sessions(time.Now())
	t.Log(s, err, time.Since(start))
	start = time.Now()
	l, err := m.Listeners()
	t.Log(l, err, time.Since(start))
	u, err := m.Units()
	t.Log(u, err)
	c, err := m.Containers()
	t.Log(c, err)
}

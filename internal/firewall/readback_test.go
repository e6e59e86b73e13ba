package firewall

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bantam/internal/nstest"
)

// Bans go on while somebody else asks for those there are: all that stood before are told.
func TestASetIsReadWhileItGrows(t *testing.T) {
	n := nstest.New(t)
	writer, reader := openIn(t, n), openIn(t, n)
	const before = 1000
	var bans []Element
	for i := range 60 * before {
		bans = append(bans, Element{Jail: "a", Prefix: netip.PrefixFrom(address4(i), 32), End: time.Now().Add(time.Hour)})
	}
	if err := writer.Sync(t.Context(), []Rule{{Jail: "a"}}, nil, slices.Values(bans[:before])); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan bool), make(chan error)
	go func() {
		for _, e := range bans[before:] {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := writer.Apply([]Change{{Element: e}}); err != nil {
				stopped <- err
				return
			}
		}
		stopped <- errors.New("all are banned before the set was read")
	}()
	for range 2 {
		es, err := reader.Elements("a")
		found := map[netip.Prefix]bool{}
		for _, e := range es {
			found[e.Prefix] = true
		}
		missing := slices.ContainsFunc(bans[:before], func(e Element) bool { return !found[e.Prefix] })
		if err != nil || missing {
			t.Errorf("%d elements, missing one that stood before: %v, %v", len(es), missing, err)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

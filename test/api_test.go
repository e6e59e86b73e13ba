package test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// apiHost is a host with one jail.
func apiHost(t *testing.T, more string) *host {
	t.Helper()
	return newHost(t, "[sshd]\nenabled = true\nbackend = inotify\nlogpath = DIR/auth.log\nmaxretry = 1\nignoreself = no\n"+more)
}

// ask sends a request to the daemon as it stands in a document.
func (h *host) ask(method, path, body string) (status int, answer string) {
	h.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(h.dir, "s"))
	}}}
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://bantam"+path, strings.NewReader(body))
	h.check(err)
	resp, err := client.Do(r)
	h.check(err)
	text, err := io.ReadAll(resp.Body)
	h.check(errors.Join(err, resp.Body.Close()))
	return resp.StatusCode, string(text)
}

// The examples of docs/formats/control.md are what the daemon answers.
func TestTheExamplesOfTheControlSocket(t *testing.T) {
	page, err := os.ReadFile("../docs/formats/control.md")
	if err != nil {
		t.Fatal(err)
	}
	_, examples, _ := strings.Cut(string(page), "\n## Examples\n")
	_, examples, _ = strings.Cut(examples, "```\n")
	examples, _, _ = strings.Cut(examples, "```\n")
	h := apiHost(t, "")
	p := h.start().ready()
	requests := regexp.MustCompile(`(?m)^([A-Z]+) (/\S+)(?: (.*))?\n(\d+) (.*)$`).FindAllStringSubmatch(examples, -1)
	if len(requests) < 20 {
		t.Fatalf("there are %d examples", len(requests))
	}
	for _, r := range requests {
		status, answer := h.ask(r[1], r[2], r[3])
		var got, want any
		if err := json.Unmarshal([]byte(r[5]), &want); err != nil {
			t.Fatalf("%s: %v", r[5], err)
		}
		if err := json.Unmarshal([]byte(answer), &got); err != nil || r[4] != strconv.Itoa(status) || !like(got, want) {
			t.Errorf("%s %s %s\nanswers %d %s\nand not %s %s", r[1], r[2], r[3], status, answer, r[4], r[5])
		}
	}
	p.wait()
}

// like compares JSON; "…" is like everything.
func like(got, want any) bool {
	switch w := want.(type) {
	case string:
		return w == "…" || got == want
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for key := range w {
			if v, there := g[key]; !there || !like(v, w[key]) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			if !like(g[i], w[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(got, want)
}

// A new ignoreip takes bans out of the kernel: at a reload, and at a start.
func TestANewIgnoreipLiftsBansInTheKernel(t *testing.T) {
	h := apiHost(t, "")
	p := h.start().ready()
	friend, enemy := address(1), address(2)
	third := address(3)
	for _, a := range []netip.Addr{friend, enemy, third} {
		h.log("auth.log", failed(a))
	}
	in := func(a netip.Addr) bool {
		_, is := h.banned("sshd")[netip.PrefixFrom(a, a.BitLen())]
		return is
	}
	h.until("all are banned", func() bool { return in(friend) && in(enemy) && in(third) })
	jails := func(ignore string) {
		text := "[sshd]\nenabled = true\nbackend = inotify\nlogpath = " + h.dir + "/auth.log\nmaxretry = 1\nignoreself = no\nignoreip = " + ignore + "\n"
		h.write("jail.local", text)
	}
	jails(friend.String())
	h.run("reload")
	if in(friend) || !in(enemy) {
		t.Errorf("after the reload the friend is banned: %v, the enemy: %v", in(friend), in(enemy))
	}
	p.terminate()
	jails(friend.String() + " " + third.String())
	h.start().ready()
	h.until("the ban of who became a friend while the daemon was down is lifted", func() bool { return !in(third) })
	if in(friend) || !in(enemy) {
		t.Errorf("after the restart the friend is banned: %v, the enemy: %v", in(friend), in(enemy))
	}
}

package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Plan is what is to be written.
type Plan struct {
	// Dir is the folder, and File the new file in it.
	Dir  string `json:"dir"`
	File string `json:"file"`
	// New is true if the folder has no configuration yet.
	New bool `json:"new"`
	// Jails are those to be enabled that are not yet.
	Jails []string `json:"jails"`
	// Options are further lines of their sections.
	Options map[string][]string `json:"options,omitempty"`
	// Never goes to ignoreip. IgnoreIP is where the folder has one, FILE:LINE, which is left alone; empty for nowhere.
	Never    []Never `json:"never"`
	IgnoreIP string  `json:"ignoreip,omitempty"`
	// Tell is an action that sends messages, as it is written below the ban; empty for none.
	Tell string `json:"tell,omitempty"`
	// Observe is true if nobody is to be banned at first.
	Observe bool `json:"observe,omitempty"`
	// Text is the file.
	Text string `json:"text,omitempty"`
}

// MainFile is the file of a new configuration.
const MainFile = "jail.local"

// Fill settles the file's name and its text, which is empty if nothing is to be written. Text depends on the rest
// of the plan and on the day alone.
func (p *Plan) Fill(today time.Time) {
	p.File = MainFile
	for n := 1; !p.New; n++ {
		p.File = "jail.d/setup.local"
		if n > 1 {
			p.File = fmt.Sprintf("jail.d/setup-%d.local", n)
		}
		if _, err := os.Lstat(filepath.Join(p.Dir, filepath.FromSlash(p.File))); errors.Is(err, fs.ErrNotExist) || n == 1000 {
			break
		}
	}
	never := slices.DeleteFunc(slices.Clone(p.Never), func(n Never) bool { return n.Covered || n.Own })
	if p.IgnoreIP != "" {
		never = nil
	}
	p.Text = ""
	if !p.New && len(p.Jails) == 0 && len(never) == 0 && p.Tell == "" {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s. It is yours now: change it as you\n# like; setup never overwrites it. bantam check finds mistakes, bantam reload\n# puts it to work.\n", Header, today.Format(time.DateOnly))
	if p.Observe || len(never) > 0 || p.Tell != "" {
		b.WriteString("\n[DEFAULT]\n")
	}
	if p.Observe {
		fmt.Fprintf(&b, "\n%s\n%s\n", observeNote, observeLine)
	}
	if len(never) > 0 {
		b.WriteString("\n# Never banned, beside this machine itself:\n")
		for _, n := range never {
			fmt.Fprintf(&b, "#   %s: %s\n", show(n), n.Why)
		}
		for i, n := range never {
			key := "          "
			if i == 0 {
				key = "ignoreip ="
			}
			fmt.Fprintf(&b, "%s %s\n", key, show(n))
		}
	}
	if p.Tell != "" {
		fmt.Fprintf(&b, "\n# Ban, and tell:\naction = %%(action_)s\n         %s\n", p.Tell)
	}
	for _, name := range p.Jails {
		fmt.Fprintf(&b, "\n[%s]\nenabled = true\n", name)
		for _, line := range p.Options[name] {
			b.WriteString(line + "\n")
		}
	}
	p.Text = b.String()
}

// show is how ignoreip names somebody.
func show(n Never) string {
	if n.Prefix.IsSingleIP() {
		return n.Prefix.Addr().String()
	}
	return n.Prefix.String()
}

// String is who it is, for people.
func (n Never) String() string { return show(n) }

// LocalChanges counts the options that an administrator has set in a Fail2Ban folder beside the files that its package
// brings.
func LocalChanges(dir string) (n int, files []string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // what cannot be read is not counted
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".local") {
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() > 1<<20 {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		before := n
		for line := range strings.Lines(string(text)) {
			if key, _, is := strings.Cut(line, "="); is && key != "" && !strings.ContainsAny(key[:1], " \t#;[") {
				n++
			}
		}
		if name, err := filepath.Rel(dir, path); err == nil && n > before {
			files = append(files, name)
		}
		return nil
	})
	return n, files
}

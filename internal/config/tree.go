package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// maxFiles bounds how many files one configuration file may pull in: every file
// that includes two others doubles them.
const maxFiles = 1000

// A tree is the folder in use and the library below it. Files are parsed once.
type tree struct {
	dir    string // "" when there is no folder
	lib    fs.FS  // nil when there is no library
	prefix string // of the library's files in messages
	// whole is true when the folder has its own jail.conf: then its filters and
	// actions stand alone, and a .local file does not extend one of the library's.
	whole    bool
	parsed   map[place]*file
	combined map[string]*combined // filters by name, parameters and what of the jail they can see
	problems []Problem
	asked    map[string]bool // files that are known to be readable for others
	esmithIn *esmith         // nil without settings = esmith:PATH; known from jails on
}

// A place is a file of the folder or of the library.
type place struct {
	lib  bool
	name string // relative to the root with slashes, or absolute in the folder
}

func newTree(dir string, lib fs.FS, prefix string) *tree {
	return &tree{dir: dir, lib: lib, prefix: prefix, parsed: map[place]*file{}, combined: map[string]*combined{}, asked: map[string]bool{}}
}

func (t *tree) label(p place) string {
	if p.lib {
		return t.prefix + p.name
	}
	return p.name
}

func (t *tree) path(p place) string {
	if filepath.IsAbs(p.name) {
		return p.name
	}
	return filepath.Join(t.dir, filepath.FromSlash(p.name))
}

// exists reports whether there is something to be read under the name. A
// dangling link is as good as nothing, and worth a word.
func (t *tree) exists(p place) bool {
	if p.lib {
		if t.lib == nil || !fs.ValidPath(p.name) {
			return false
		}
		_, err := fs.Stat(t.lib, p.name)
		return err == nil
	}
	if t.dir == "" && !filepath.IsAbs(p.name) {
		return false
	}
	_, err := os.Stat(t.path(p))
	if missing(err) {
		if target, err := os.Readlink(t.path(p)); err == nil {
			t.warn(&Problem{File: t.label(p), Text: fmt.Sprintf("the link to %s leads nowhere", quote(target)), Hint: "the file is passed over"})
		}
		return false
	}
	return true
}

// missing reports whether err says that there is no such file.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func (t *tree) warn(p *Problem) {
	p.Warning = true
	t.problems = append(t.problems, *p)
}

// parse reads and parses one file that exists.
func (t *tree) parse(p place) (*file, error) {
	if f, ok := t.parsed[p]; ok {
		return f, nil
	}
	text, err := t.read(p)
	if err != nil {
		return nil, err
	}
	f, err := parse(t.label(p), text)
	if err != nil {
		return nil, err
	}
	t.parsed[p] = f
	return f, nil
}

func (t *tree) read(p place) ([]byte, error) {
	var in fs.File
	var err error
	if p.lib {
		in, err = t.lib.Open(p.name)
	} else {
		// Without O_NONBLOCK a named pipe would hold us up for ever.
		in, err = os.OpenFile(t.path(p), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, t.readProblem(p, err)
	}
	defer in.Close()
	info, err := in.Stat()
	switch {
	case err != nil:
		return nil, t.readProblem(p, err)
	case info.IsDir():
		return nil, &Problem{File: t.label(p), Text: "this is a folder, not a file", Hint: "move it away; further files go into a folder whose name ends in .d"}
	case !info.Mode().IsRegular() && !isNull(info):
		return nil, &Problem{File: t.label(p), Text: "this is not a regular file", Hint: "put a text file there"}
	}
	text, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return nil, t.readProblem(p, err)
	}
	return text, nil
}

// isNull reports whether info is /dev/null, which containers mount over a file
// to be rid of it.
func isNull(info fs.FileInfo) bool {
	null, err := os.Stat(os.DevNull)
	return err == nil && os.SameFile(info, null)
}

func (t *tree) readProblem(p place, err error) *Problem {
	hint := ""
	if errors.Is(err, fs.ErrPermission) {
		hint = "run as root, or make the file readable"
	}
	var in *fs.PathError
	if errors.As(err, &in) {
		err = in.Err
	}
	return &Problem{File: t.label(p), Text: "the file cannot be read: " + err.Error(), Hint: hint}
}

// list are the files of a folder whose names end in ext, in the order of their
// bytes and without hidden ones.
func (t *tree) list(lib bool, name, ext string) ([]place, error) {
	var entries []fs.DirEntry
	var err error
	folder := place{lib, name}
	switch {
	case lib && (t.lib == nil || !fs.ValidPath(folder.name)), !lib && t.dir == "":
		return nil, nil
	case lib:
		entries, err = fs.ReadDir(t.lib, folder.name)
	default:
		entries, err = os.ReadDir(t.path(folder))
	}
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, t.readProblem(folder, err)
	}
	var out []place
	for _, e := range entries {
		p := place{lib, path.Join(folder.name, e.Name())}
		if strings.HasSuffix(e.Name(), ext) && e.Name()[0] != '.' && t.exists(p) {
			out = append(out, p)
		}
	}
	return out, nil
}

// candidates are the files that make up base, the weakest first: base.conf,
// base.d/*.conf, base.local, base.d/*.local (detection.md 1.1).
func (t *tree) candidates(lib bool, base string) (conf, local []place, err error) {
	for _, step := range []struct {
		list *[]place
		ext  string
	}{{&conf, ".conf"}, {&local, ".local"}} {
		if p := (place{lib, base + step.ext}); t.exists(p) {
			*step.list = append(*step.list, p)
		}
		more, err := t.list(lib, base+".d", step.ext)
		if err != nil {
			return nil, nil, err
		}
		*step.list = append(*step.list, more...)
	}
	return conf, local, nil
}

// errNone is returned for a base without any file.
var errNone = errors.New("no such file")

// layered are the places that make up a filter or an action: the folder's, with
// the library's below where the folder has none of its own.
func (t *tree) layered(base string) ([]place, error) {
	conf, local, err := t.candidates(false, base)
	if err != nil {
		return nil, err
	}
	if len(conf) == 0 && (len(local) == 0 || !t.whole) {
		libConf, libLocal, err := t.candidates(true, base)
		if err != nil {
			return nil, err
		}
		conf = append(libConf, libLocal...)
	}
	if all := append(conf, local...); len(all) > 0 {
		return all, nil
	}
	return nil, errNone
}

// load reads files with all they include, in order, and merges them.
func (t *tree) load(places []place) (*set, error) {
	s := newSet()
	r := reading{tree: t, set: s}
	for _, p := range places {
		if err := r.file(p, nil); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// reading is one read of a base with its includes.
type reading struct {
	tree  *tree
	set   *set
	files int
}

// file merges one file: what it names under before, itself, what it names under
// after. A file that is being included already is passed over, so loops end.
func (r *reading) file(p place, path []place) error {
	for _, outer := range path {
		if outer == p {
			return nil
		}
	}
	if r.files++; r.files > maxFiles {
		return &Problem{File: r.tree.label(p), Text: fmt.Sprintf("more than %d files are included", maxFiles), Hint: "do the files include each other?"}
	}
	f, err := r.tree.parse(p)
	if err != nil {
		return err
	}
	path = append(path[:len(path):len(path)], p)
	if err := r.includes(f, p, "before", path); err != nil {
		return err
	}
	r.set.add(f)
	return r.includes(f, p, "after", path)
}

// includes merges the files that f names under key, one a line, relative to the
// folder of f, each followed by the .local file beside it.
func (r *reading) includes(f *file, p place, key string, path []place) error {
	inc := f.section("INCLUDES")
	if inc == nil || inc.opts[key] == nil {
		return nil
	}
	own := newSet()
	own.add(&file{defaults: f.defaults, sections: []*section{inc}})
	v := inc.opts[key]
	text, err := (&scope{set: own, section: "INCLUDES"}).expand(v)
	if err != nil {
		return err
	}
	for _, name := range lines(text) {
		found := r.tree.beside(p, name)
		if len(found) == 0 && !strings.HasSuffix(name, ".local") {
			problem := problemAt(v, fmt.Sprintf("there is no file %s to include", quote(name)), "name one file a line, relative to this one")
			r.tree.warn(problem)
		}
		for _, q := range found {
			if err := r.file(q, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// beside are the files that an include of name in the file p stands for. A file
// of the library includes the library's; only where the folder lacks the file
// does its .local change it.
func (t *tree) beside(p place, name string) []place {
	q := place{p.lib, path.Clean(name)}
	if !path.IsAbs(name) {
		q.name = path.Join(path.Dir(p.name), name)
	} else if p.lib {
		q.lib = false
	}
	var out []place
	inFolder := t.exists(place{false, q.name})
	inLib := t.exists(place{true, q.name})
	switch {
	case q.lib && inLib:
		out = append(out, q)
	case inFolder:
		out = append(out, place{false, q.name})
	case inLib:
		out = append(out, place{true, q.name})
	}
	stem, isConf := strings.CutSuffix(q.name, ".conf")
	if !isConf {
		return out
	}
	if l := (place{true, stem + ".local"}); len(out) > 0 && out[0].lib && t.exists(l) {
		out = append(out, l)
	}
	if l := (place{false, stem + ".local"}); (!q.lib || !inFolder) && t.exists(l) {
		out = append(out, l)
	}
	return out
}

// A set is the merged content of several files.
type set struct {
	defaults *section
	sections map[string]*section
	order    []string // of the sections' first appearance
	// known are the values that a later file replaced, by section and option.
	known map[string]map[string]*Value
	// spare are values that only references may fall back on.
	spare *section
}

func newSet() *set {
	return &set{
		defaults: newSection(defaultName, 0), sections: map[string]*section{},
		known: map[string]map[string]*Value{}, spare: newSection(defaultName, 0),
	}
}

// conditional is the form of a section that holds for one address family, such
// as Init?family=inet6.
var conditional = regexp.MustCompile(`^(\w+)(\?.+)$`)

// add lays a file over what is there, option by option.
func (s *set) add(f *file) {
	for _, key := range f.defaults.keys {
		s.defaults.set(key, f.defaults.opts[key])
	}
	for _, from := range f.sections {
		name, cond := from.name, ""
		if m := conditional.FindStringSubmatch(name); m != nil {
			name, cond = m[1], m[2]
		}
		if name == "INCLUDES" || strings.HasPrefix(name, "KNOWN/") {
			continue
		}
		to := s.sections[name]
		if to == nil {
			to = newSection(name, from.line)
			s.sections[name] = to
			s.order = append(s.order, name)
		}
		for _, key := range from.keys {
			if old := to.opts[key+cond]; old != nil {
				if s.known[name] == nil {
					s.known[name] = map[string]*Value{}
				}
				s.known[name][key+cond] = old
			}
			to.set(key+cond, from.opts[key])
		}
	}
}

// raw is the value of an option in a section or, failing that, in [DEFAULT].
func (s *set) raw(section, key string) *Value {
	if sec := s.sections[section]; sec != nil {
		if v := sec.opts[key]; v != nil {
			return v
		}
	}
	return s.defaults.opts[key]
}

package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"bantam/internal/jsonline"
)

// Envelopes in which container engines put the lines of what they run, for
// Config.Envelope. Auto, which is the default, goes by a file's first line: one that
// begins otherwise is never unwrapped, whatever stands further down in it, so nobody
// who gets a line of his own into a log can choose its date.
const (
	// Docker is the json-file log driver: one object a line, with log, stream, time and
	// perhaps attrs (moby, daemon/logger/jsonfilelog/jsonlog).
	Docker = "docker"
	// CRI is what containerd and CRI-O write: time, stream, P or F, and the text
	// (kubernetes, pkg/kubelet/kuberuntime/logs).
	CRI = "cri"
	// Plain is no envelope.
	Plain = "none"
)

// envelope checks the name of an envelope; "" is Auto.
func envelope(name string) (string, error) {
	switch name {
	case "", Auto:
		return Auto, nil
	case Docker, CRI, Plain:
		return name, nil
	}
	return "", fmt.Errorf("unknown envelope %q: use auto, docker, cri or none", name)
}

// envelopeOf is the envelope a file is written in, told by its first line.
func envelopeOf(first []byte) string {
	first = trimLine(bytes.TrimSuffix(first, []byte("\n")))
	for _, kind := range [...]string{Docker, CRI} {
		u := unwrapper{kind: kind}
		if _, ok := u.open(first); ok {
			return kind
		}
	}
	return Plain
}

// An unwrapper takes the lines of one file out of their envelope and joins those that
// were written in pieces, apart for each stream. It holds at most MaxLine bytes of
// each.
type unwrapper struct {
	kind  string // Docker, CRI or Plain; "" until it is known
	parts [2]part
	text  []byte // scratch
}

// A part is the beginning of a line whose end has not been written yet.
type part struct {
	text []byte
	open bool
}

// A wrapped line is what an envelope holds; its text is valid until the next one.
type wrapped struct {
	text   []byte
	at     time.Time
	stderr bool
	whole  bool // the line ends here
}

// next takes a line out of its envelope. What is not in one is handed back as it is,
// without a time. It is false for a piece: the line comes with its last one.
func (u *unwrapper) next(line []byte) (text []byte, at time.Time, ok bool) {
	w, ok := u.open(line)
	if !ok {
		return line, time.Time{}, true
	}
	p := &u.parts[0]
	if w.stderr {
		p = &u.parts[1]
	}
	if !p.open && w.whole {
		return w.text, w.at, true
	}
	if !p.open {
		p.text, p.open = p.text[:0], true
	}
	p.text = append(p.text, w.text[:min(len(w.text), MaxLine-len(p.text))]...)
	if !w.whole {
		return nil, time.Time{}, false
	}
	p.open = false
	return p.text, w.at, true
}

// outerTime is the time to hand a line on with: that of its envelope, unless the text
// bears one of its own.
func outerTime(judge Judge, text []byte, at, now time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	if _, ok := judge.Time(text, now); ok {
		return time.Time{}
	}
	return at
}

func (u *unwrapper) open(line []byte) (w wrapped, ok bool) {
	switch u.kind {
	case Docker:
		return u.openDocker(line)
	case CRI:
		return openCRI(line)
	}
	return w, false
}

// openCRI reads "2016-10-06T00:17:09.669794202Z stdout F text"; of the tags, which
// colons part, the first one says whether the line goes on.
func openCRI(line []byte) (w wrapped, ok bool) {
	stamp, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(stamp) > 35 || len(stamp) < 20 || stamp[4] != '-' {
		return w, false
	}
	stream, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok || string(stream) != "stdout" && string(stream) != "stderr" {
		return w, false
	}
	tags, text, _ := bytes.Cut(rest, []byte(" "))
	tag, _, _ := bytes.Cut(tags, []byte(":"))
	if string(tag) != "F" && string(tag) != "P" {
		return w, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return w, false
	}
	return wrapped{trimLine(text), at, len(stream) == 6 && stream[3] == 'e', tag[0] == 'F'}, true
}

// openDocker reads {"log":"text\n","stream":"stdout","time":"2016-10-06T00:17:09.669794202Z"}.
// A log without line end is a piece of a line that was longer than 16 KiB.
func (u *unwrapper) openDocker(line []byte) (w wrapped, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"log":"`))
	if !ok {
		return w, false
	}
	if u.text, rest, ok = jsonline.Unquote(u.text[:0], rest); !ok {
		return w, false
	}
	stream, stamp, ok := dockerRest(rest)
	if !ok {
		return w, false
	}
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return w, false
	}
	text, whole := bytes.CutSuffix(u.text, []byte("\n"))
	if bytes.IndexByte(text, '\n') >= 0 { // the engine cuts there; somebody else wrote this
		text = bytes.ReplaceAll(text, []byte("\n"), []byte(`\n`))
	}
	return wrapped{trimLine(text), at, stream == "stderr", whole}, true
}

// dockerRest reads what follows the text: as the engine writes it without labels, or
// any other fields.
func dockerRest(rest []byte) (stream, stamp string, ok bool) {
	if after, ok := bytes.CutPrefix(rest, []byte(`,"stream":"std`)); ok && len(after) > 3 {
		if at, ok := bytes.CutPrefix(after[3:], []byte(`","time":"`)); ok {
			if stamp, ok := bytes.CutSuffix(at, []byte(`"}`)); ok && bytes.IndexByte(stamp, '"') < 0 {
				return "std" + string(after[:3]), string(stamp), true
			}
		}
	}
	if len(rest) == 0 || rest[0] != ',' {
		return "", "", false
	}
	var fields struct{ Stream, Time string }
	if json.Unmarshal(append([]byte("{"), rest[1:]...), &fields) != nil {
		return "", "", false
	}
	return fields.Stream, fields.Time, true
}

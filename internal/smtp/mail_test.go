package smtp_test

import (
	"bytes"
	"maps"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"bantam/internal/smtp"
	"bantam/internal/smtp/smtptest"
)

// letter is a mail that has everything.
func letter() smtp.Mail {
	return smtp.Mail{
		ID: "ban-17", Date: time.Date(2025, 3, 2, 10, 15, 4, 0, time.FixedZone("", 3600)),
		From: "Bäntam <bantam@gate.example.org>", To: []string{"Ann <ann@example.org>"},
		Cc: []string{"cc@example.org"}, Bcc: []string{"secret@example.org", "ANN@example.org"},
		Subject: "[sshd] 192.0.2.7 gesperrt – für 10 Minuten", Text: "Grüße\n.\nvom Tor\n", HTML: "<p>Grüße</p>",
		Parts: []smtp.Part{
			{Name: "log.txt", Type: "text/plain; charset=utf-8", Data: []byte("Mar 2 größe\r\n")},
			{Name: "x.json", Type: "application/json", Data: []byte(`{"a":1}`)},
		},
	}
}

// packet writes m out and takes it apart again.
func packet(t *testing.T, m smtp.Mail) (smtp.Packet, *smtptest.Reading) {
	t.Helper()
	p, err := m.Packet()
	if err != nil {
		t.Fatal(err)
	}
	r, err := smtptest.Read(p.Data)
	if err != nil {
		t.Fatalf("what was written cannot be read: %v\n%s", err, p.Data)
	}
	return p, r
}

func TestAMailIsReadAsItWasMeant(t *testing.T) {
	p, r := packet(t, letter())
	for _, c := range []struct{ what, got, want string }{
		{"Message-ID", r.Header.Get("Message-ID"), "<ban-17@gate.example.org>"},
		{"Date", r.Header.Get("Date"), "Sun, 02 Mar 2025 10:15:04 +0100"},
		{"Auto-Submitted", r.Header.Get("Auto-Submitted"), "auto-generated"},
		{"To", r.Header.Get("To"), `"Ann" <ann@example.org>`},
		{"Cc", r.Header.Get("Cc"), "<cc@example.org>"},
		{"Subject", r.Subject, "[sshd] 192.0.2.7 gesperrt – für 10 Minuten"},
		{"Text", r.Text, "Grüße\n.\nvom Tor\n"},
		{"HTML", r.HTML, "<p>Grüße</p>"},
		{"shape", r.Shape, "multipart/mixed(multipart/alternative(text/plain text/html) text/plain application/json)"},
		{"envelope's sender", p.From, "bantam@gate.example.org"},
		{"envelope's recipients", strings.Join(p.To, " "), "ann@example.org cc@example.org secret@example.org"},
		{"first file", r.Parts[0].Name + " " + string(r.Parts[0].Data), "log.txt Mar 2 größe\r\n"},
		{"second file", r.Parts[1].Name + " " + string(r.Parts[1].Data), `x.json {"a":1}`},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
	from, err := mail.ParseAddress(r.Header.Get("From"))
	if err != nil || from.Name != "Bäntam" {
		t.Errorf("From: %v, %v", from, err)
	}
	if bytes.Contains(p.Data, []byte("secret@")) || r.Header["Bcc"] != nil {
		t.Error("the blind copy is told to everybody")
	}
	for line := range bytes.Lines(p.Data) {
		if !bytes.HasSuffix(line, []byte("\r\n")) || len(line) > 1000 || !isASCII(line) {
			t.Errorf("the line %q is not fit for every mail server", line)
		}
	}
}

func isASCII(b []byte) bool {
	return !bytes.ContainsFunc(b, func(r rune) bool { return r > unicode.MaxASCII })
}

func TestASimpleMailHasASimpleShape(t *testing.T) {
	m := letter()
	m.Parts = nil
	if _, r := packet(t, m); r.Shape != "multipart/alternative(text/plain text/html)" {
		t.Errorf("with HTML: %s", r.Shape)
	}
	m.HTML = ""
	if _, r := packet(t, m); r.Shape != "text/plain" || r.Text != m.Text {
		t.Errorf("without HTML: %s %q", r.Shape, r.Text)
	}
}

func TestASubjectStaysOneVisibleLine(t *testing.T) {
	for _, c := range []struct{ name, subject, want string }{
		{"a second header", "x\r\nBcc: all@example.org", "x Bcc: all@example.org"},
		{"a body", "x\n\nbody", "x body"},
		{"NUL and tab", "a\x00b\tc", "a b c"},
		{"terminal escapes", "a\x1b]8;;x\x07b\x9b", `a\x1b]8;;x\x07b` + "\uFFFD"},
		{"a C1 control", "a\u009bb", `a\x9bb`},
		{"letters turned round", "user \u202egpj.exe\u2066", `user \u202egpj.exe\u2066`},
		{"line separators", "a\u2028b\u2029c", "a b c"},
		{"an encoded word made by the attacker", "=?utf-8?q?=0d=0aBcc:_x?=", "= ?utf-8?q?=0d=0aBcc:_x?="},
		{"not UTF-8", "a\xff\xfeb", "a\uFFFD\uFFFDb"},
		{"too long", strings.Repeat("ä", 1000), strings.Repeat("ä", smtp.MaxSubject-1) + "…"},
		{"one long word", strings.Repeat("x", 1000), strings.Repeat("x", smtp.MaxSubject-1) + "…"},
		{"none", "", ""},
	} {
		m := letter()
		m.Subject = c.subject
		_, r := packet(t, m)
		if r.Subject != c.want {
			t.Errorf("%s: %q, want %q", c.name, r.Subject, c.want)
		}
		if r.Header["Bcc"] != nil {
			t.Errorf("%s: it made a header", c.name)
		}
	}
}

func TestBodiesShowWhatIsInThem(t *testing.T) {
	m := letter()
	m.Text = "line\r\n\x1b[2J\x00\u202e\ttab\n" + strings.Repeat("y", 3000)
	m.HTML = "<b>\u202e\x08</b>"
	_, r := packet(t, m)
	if want := "line\n\\x1b[2J\\x00\\u202e\ttab\n" + strings.Repeat("y", 3000); r.Text != want {
		t.Errorf("text %q", r.Text)
	}
	if r.HTML != `<b>\u202e\x08</b>` {
		t.Errorf("HTML %q", r.HTML)
	}
	m.Text = strings.Repeat("z", smtp.MaxBody+1)
	if _, r := packet(t, m); len(r.Text) > smtp.MaxBody || !strings.HasSuffix(r.Text, "[…]\n") {
		t.Errorf("a long text of %d bytes ends %q", len(r.Text), r.Text[len(r.Text)-10:])
	}
}

func TestWhatCannotBeSentIsRefused(t *testing.T) {
	big := make([]byte, smtp.MaxData)
	for _, c := range []struct {
		name   string
		change func(m *smtp.Mail)
		want   string
	}{
		{"CRLF in To", func(m *smtp.Mail) { m.To[0] = "a@example.org\r\nBcc: x@example.org" }, "not one line"},
		{"CRLF in a name", func(m *smtp.Mail) { m.To[0] = "\"a\r\nBcc: x\" <a@example.org>" }, "not one line"},
		{"LF in From", func(m *smtp.Mail) { m.From = "a@example.org\nX: y" }, "not one line"},
		{"NUL in Cc", func(m *smtp.Mail) { m.Cc[0] = "a\x00@example.org" }, "not one line"},
		{"CR in Bcc", func(m *smtp.Mail) { m.Bcc[0] = "a@example.org\r" }, "not one line"},
		{"CRLF in the ID", func(m *smtp.Mail) { m.ID = "a\r\nX: y" }, "Message-ID"},
		{"no ID", func(m *smtp.Mail) { m.ID = "" }, "Message-ID"},
		{"two addresses in one", func(m *smtp.Mail) { m.To[0] = "a@example.org, b@example.org" }, "is wanted"},
		{"an address that is a command", func(m *smtp.Mail) { m.To[0] = "-bd@example.org" }, "before the @"},
		{"a quoted name", func(m *smtp.Mail) { m.To[0] = `"a b"@example.org` }, "before the @"},
		{"no domain", func(m *smtp.Mail) { m.To[0] = "root" }, "is wanted"},
		{"a domain of other letters", func(m *smtp.Mail) { m.To[0] = "a@grüße.example" }, "xn--"},
		{"a domain with a hole", func(m *smtp.Mail) { m.To[0] = "a@example..org" }, ""},
		{"a very long name", func(m *smtp.Mail) { m.To[0] = strings.Repeat("a", 65) + "@example.org" }, "too long"},
		{"nobody", func(m *smtp.Mail) { m.To, m.Cc, m.Bcc = nil, nil, nil }, "nobody"},
		{"too many", func(m *smtp.Mail) {
			for i := range smtp.MaxRecipients {
				m.To = append(m.To, strings.Repeat("x", i%60+1)+strings.Repeat("y", i/60)+"@example.org")
			}
		}, "more than 100"},
		{"HTML without end", func(m *smtp.Mail) { m.HTML = string(big) }, "HTML"},
		{"a part without end", func(m *smtp.Mail) { m.Parts[1].Data = big }, "more than"},
		{"CRLF in a part's type", func(m *smtp.Mail) { m.Parts[0].Type = "text/plain\r\nX: y" }, "not one line"},
		{"a part of parts", func(m *smtp.Mail) { m.Parts[0].Type = "multipart/mixed; boundary=x" }, "media type"},
		{"a part of no type", func(m *smtp.Mail) { m.Parts[0].Type = "" }, "media type"},
		{"a message that needs an encoding", func(m *smtp.Mail) {
			m.Parts[0] = smtp.Part{Name: "x", Type: "message/feedback-report", Data: []byte("ä")}
		}, "ASCII"},
	} {
		m := letter()
		c.change(&m)
		if _, err := m.Packet(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		} else if strings.ContainsAny(err.Error(), "\r\n\x00") || len(err.Error()) > 500 {
			t.Errorf("%s: the error repeats too much: %q", c.name, err)
		}
	}
}

func TestAPartsNameIsAPlainFileName(t *testing.T) {
	m := letter()
	m.Parts = []smtp.Part{
		{Name: "../a\"b\r\nX: ü.txt", Type: "text/plain", Data: []byte("x")},
		{Name: "report.txt", Type: "message/feedback-report", Data: []byte("Feedback-Type: abuse\nVersion: 1\n")},
	}
	p, r := packet(t, m)
	if got := r.Parts[0].Name; got != ".._a_b__X___.txt" {
		t.Errorf("the file is named %q", got)
	}
	if got := string(r.Parts[1].Data); got != "Feedback-Type: abuse\r\nVersion: 1\r\n" {
		t.Errorf("the report is %q", got)
	}
	if !bytes.Contains(p.Data, []byte("\r\nFeedback-Type: abuse\r\nVersion: 1\r\n")) {
		t.Errorf("a message must travel as it is: %s", p.Data)
	}
}

func TestATextThatDoesNotShowAsItIsTravelsEncoded(t *testing.T) {
	for _, text := range []string{"\x1b[2J", "größe", strings.Repeat("x", 999), "a\rb", "\x00", "\x7f"} {
		m := letter()
		m.Parts = []smtp.Part{{Name: "log.txt", Type: "text/plain", Data: []byte(text)}}
		p, r := packet(t, m)
		if got := string(r.Parts[0].Data); got != text || !bytes.Contains(p.Data, []byte("base64")) {
			t.Errorf("%q arrives as %q", text, got)
		}
	}
}

func TestAnAddressMaySayWhoItIs(t *testing.T) {
	a, err := smtp.Address(`"Löhr, \u202eAnn" <a.b+c@sub.example.org>`)
	if err != nil || a.Address != "a.b+c@sub.example.org" {
		t.Errorf("%v, %v", a, err)
	}
	a, err = smtp.Address("root@[192.0.2.1]")
	if err != nil || a.Address != "root@[192.0.2.1]" {
		t.Errorf("%v, %v", a, err)
	}
}

// FuzzPacket says that no text makes a header, or a recipient, that was not meant.
func FuzzPacket(f *testing.F) {
	f.Add("a@example.org", "A <b@example.org>", "x@example.org", "hi", "text", "<p>", "file", "text/plain", []byte("x"))
	f.Add("\"=?utf-8?q?=0a?=\" <a@b>", "b@c", "c@d\r\nX: y", "s\r\n\r\nBcc: x", "\r\n.\r\n", "\x00", "\"\r\n", "text/html; a=\"\r\nb\"", []byte("\r\n--"))
	f.Add("a@[::1]", "a@b", "B@A", strings.Repeat("ä =?", 90), "\u202e", "", "\xff", "message/rfc822", []byte("a\n\nb"))
	f.Fuzz(func(t *testing.T, from, to, bcc, subject, text, html, name, kind string, data []byte) {
		if len(text)+len(html)+len(data)+len(subject) > 64<<10 {
			return
		}
		m := smtp.Mail{
			ID: "1", Date: time.Unix(0, 0), From: from, To: []string{to}, Bcc: []string{bcc}, Subject: subject,
			Text: text, HTML: html, Parts: []smtp.Part{{Name: name, Type: kind, Data: data}},
		}
		p, err := m.Packet()
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n\x00\x1b") {
				t.Errorf("the error shows a stranger's control characters: %q", err)
			}
			return
		}
		read, err := smtptest.Read(p.Data)
		if err != nil {
			t.Fatalf("%v in\n%s", err, p.Data)
		}
		want := []string{"Auto-Submitted", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To"}
		if got := slices.Sorted(maps.Keys(read.Header)); !slices.Equal(got, want) {
			t.Errorf("headers %q", got)
		}
		for key, values := range read.Header {
			if len(values) != 1 {
				t.Errorf("%s is there %d times", key, len(values))
			}
		}
		if strings.ContainsFunc(read.Subject, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) {
			t.Errorf("subject %q", read.Subject)
		}
		shownTo, err := read.Header.AddressList("To")
		if err != nil || len(shownTo) != 1 || shownTo[0].Address != p.To[0] {
			t.Errorf("To: is %v, %v; the first recipient is %q", shownTo, err, p.To[0])
		}
		meant := []string{to, bcc}
		if len(p.To) == 1 {
			meant = meant[:1]
		}
		for i, text := range meant {
			if a, err := mail.ParseAddress(text); err != nil || a.Address != p.To[i] {
				t.Errorf("recipient %d is %q, meant was %q", i, p.To[i], text)
			}
		}
		sameLines := func(b []byte) string { return strings.ReplaceAll(string(b), "\r\n", "\n") }
		if len(read.Parts) != 1 {
			t.Errorf("%d files", len(read.Parts))
		} else if got := sameLines(read.Parts[0].Data); got != sameLines(data) {
			t.Errorf("the file %q arrives as %q", data, got)
		}
		if !bytes.HasPrefix(p.Data, []byte("Auto-Submitted: ")) || bytes.Contains(p.Data, []byte("\x00")) || !isASCII(p.Data) {
			t.Errorf("data %q", p.Data)
		}
	})
}

func BenchmarkPacket(b *testing.B) {
	b.ReportAllocs()
	m := letter()
	for b.Loop() {
		if _, err := m.Packet(); err != nil {
			b.Fatal(err)
		}
	}
}

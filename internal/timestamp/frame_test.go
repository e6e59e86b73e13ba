package timestamp

import "testing"

// What is around a date is followed by hand as its expression would match it.
func TestFramesAgreeWithTheirExpressions(t *testing.T) {
	for _, pattern := range []string{
		`^[^\[]*\[({DATE})`, `^[^\[]*(\[{DATE}\s*\])`, `^[^\[]*\[({DATE}\s*\])`, `^[^"]*"{DATE}"`,
		`^\[{DATE}\]`, `^[^\[]*\[({DATE})\]`, `^<{DATE}>`, `^[^:]*:[^ ]* ({DATE})`, `^[^\[]*\[({DATE})\s*\]"`,
	} {
		ts, err := compilePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		slow := make([]*template, len(ts))
		framed := 0
		for i, f := range ts {
			if slow[i] = f.byPattern(); f.frame != nil {
				framed++
			}
		}
		if framed != 15 {
			t.Errorf("%q: %d of its templates have a frame, want 15", pattern, framed)
		}
		for _, date := range []string{
			"15/Jun/2026:11:00:00 +0000", "15/Jun/2026:11:00:00", "2026-06-15 11:00:00", "2026-06-15T11:00:00.123+02:00", "2026-06-15 11:00:00,1234567",
			"Jun 15 11:00:00", "Mon Jun 15 11:00:00.123456 2026", "11:00:00", " 5/Jun/2026:11:00:00", "Jun 15 11:00:00 2026x", "no date", "",
		} {
			for _, before := range []string{"", "[", "x [", "a - b [", "a-b - ", `x "`, "<", "[[", "x:y ", "é[", "\xff["} {
				for _, after := range []string{"", "]", " ]", "\t]", "\v]", "\u00a0]", `"`, `]"`, ">", " x", "x", "é", ".5]", " +0100]"} {
					agree(t, ts, slow, []byte(before+date+after))
				}
			}
		}
	}
}

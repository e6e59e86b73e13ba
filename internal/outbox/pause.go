package outbox

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// How long a letter, and a channel, rests after an attempt that did not work.
const (
	firstPause = 10 * time.Second
	lastPause  = time.Hour
	// What a receiver may ask for lies between these.
	shortestPause = time.Second
	longestPause  = 24 * time.Hour
)

// pause is how long to wait after so many attempts, 1 or more: ten seconds, doubled with each, at most
// an hour, and up to a quarter less by chance, from 0 to 1, so that many machines do not come back at
// the same moment.
func pause(tries int, chance float64) time.Duration {
	full := lastPause
	if doublings := tries - 1; doublings < 9 {
		full = min(full, firstPause<<max(0, doublings))
	}
	return full - time.Duration(chance*float64(full/4))
}

// printable is text that shows as one line and does nothing else: what is no print, as controls and marks
// of direction are not, becomes "?", and what is beyond most bytes is cut off.
func printable(text string, most int) string {
	var out strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			r = ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			r = '?'
		}
		if out.Len()+utf8.RuneLen(r) > most {
			break
		}
		out.WriteRune(r)
	}
	return out.String()
}

package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// manyJails is a folder of so many jails with a small filter.
func manyJails(t testing.TB, n int) (dir string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("[DEFAULT]\nobserve = true\nfilter = f\naction = bantam\n")
	for i := range n {
		fmt.Fprintf(&b, "[j%d]\nenabled = true\nlogpath = %s\n", i, filepath.Join("/var/log/none", fmt.Sprint(i)))
	}
	return folder(t, "jail.conf", b.String(), "filter.d/f.conf", "[Definition]\nfailregex = ^ f <HOST>\n")
}

func BenchmarkCheckManyJails(b *testing.B) {
	dir := manyJails(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if code, out, errs := program(b, "bantam", "check", "-c", dir); code != ExitOK {
			b.Fatalf("check ends with %d:\n%s%s", code, out, errs)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/jail")
}

# A manual page has no room for wide tables: each row of one in Markdown becomes a point of a
# list, with the heads of the columns between.
function cells(line, out,    n, i) {
	gsub(/\\\|/, "\001", line)
	sub(/^\| */, "", line)
	sub(/ *\|$/, "", line)
	n = split(line, out, / *\| */)
	for (i = 1; i <= n; i++) gsub(/\001/, "|", out[i])
	return n
}
!/^\|/ { rows = 0; print; next }
++rows == 1 { columns = cells($0, head); next }
rows == 2 { next }
{
	n = cells($0, cell)
	between = ""
	for (i = 2; i < n; i++) if (cell[i] != "") between = between (between == "" ? "" : "; ") tolower(head[i]) " " cell[i]
	print "- " cell[1] (between == "" ? "" : " (" between ")") ": " cell[n]
}

package timestamp

import (
	"fmt"
	"strconv"
	"strings"
)

// zoneOffset reads a zone in seconds east of Greenwich: "Z", "UTC", "GMT", a
// single military letter, an abbreviation, an offset, or an abbreviation with an
// offset, which is added to it: log writers that print "GMT+0200" mean that, and
// "CET+0100" is two hours by the same rule.
func zoneOffset(s string) (seconds int, ok bool) {
	i := strings.IndexAny(s, "+-")
	if i < 0 {
		return abbreviation(s)
	}
	if i > 0 {
		if seconds, ok = abbreviation(s[:i]); !ok {
			return 0, false
		}
	}
	sign, digits := s[i], strings.Replace(s[i+1:], ":", "", 1)
	if len(digits) != 2 && len(digits) != 4 {
		return 0, false
	}
	for _, c := range []byte(digits) {
		if !isDigit(c) {
			return 0, false
		}
	}
	off := (int(digits[0]-'0')*10 + int(digits[1]-'0')) * 3600
	if off > 19*3600 {
		return 0, false
	}
	if len(digits) == 4 {
		off += (int(digits[2]-'0')*10 + int(digits[3]-'0')) * 60
	}
	if sign == '-' {
		off = -off
	}
	return seconds + off, true
}

// abbreviation reads a zone's name as a fixed offset; names shift no clocks.
func abbreviation(s string) (seconds int, ok bool) {
	if len(s) == 1 {
		switch c := s[0]; {
		case c >= 'A' && c <= 'I':
			return int(c-'A'+1) * 3600, true
		case c >= 'K' && c <= 'M':
			return int(c-'K'+10) * 3600, true
		case c >= 'N' && c <= 'Y':
			return -int(c-'N'+1) * 3600, true
		case c == 'Z':
			return 0, true
		}
		return 0, false
	}
	seconds, ok = abbreviations[s]
	return seconds, ok
}

// abbreviations are the zone names that are understood. Names that stand for
// several zones far apart (BST, IST) are left out, because a wrong guess shifts a
// failure out of every window.
var abbreviations = parseAbbreviations(`
ACDT 10.5 ACST 9.5 ACT 8 ADT -3 AEDT 11 AEST 10 AFT 4.5 AKDT -8 AKST -9 ALMT 6
AMST 5 AMT 4 ANAST 12 ANAT 12 AQTT 5 ART -3 AST -4 AWDT 9 AWST 8 AZOT -1 AZST 5
AZT 4 BDT 8 BIOT 6 BNT 8 BOT -4 BRST -2 BRT -3 BTT 6 CAST 8 CAT 2 CCT 6.5 CDT -5
CEDT 2 CEST 2 CET 1 CIST -8 CKT -10 CLST -3 CLT -4 COST -4 COT -5 CST -6 CVT -1
CXT 7 DAVT 7 DFT 1 EASST -5 EAST -6 EAT 3 ECT -5 EDT -4 EEDT 3 EEST 3 EET 2
EGST 0 EGT -1 EST -5 FJST 13 FJT 12 FKST -3 FKT -4 FNT -2 GALT -6 GAMT -9 GET 4
GFT -3 GILT 12 GIT -9 GMT 0 GST 4 GYT -4 HAA -3 HAC -5 HADT -9 HAE -4 HAP -7
HAR -6 HAST -10 HAT -2.5 HAY -8 HKT 8 HLV -4.5 HMT 5 HNA -4 HNC -6 HNE -5 HNP -8
HNR -7 HNT -3.5 HNY -9 HOVT 7 HST -10 ICT 7 IDT 3 IOT 6 IRDT 4.5 IRKST 9 IRKT 8
IRST 3.5 JST 9 KST 9 KGT 6 KRAST 8 KRAT 7 KUYT 4 LHDT 11 LHST 10.5 MAGST 12
MAGT 11 MART -9.5 MAWT 5 MDT -6 MHT 12 MIT -9.5 MMT 6.5 MSD 4 MSK 3 MST -7 MUT 4
MVT 5 MYT 8 NCT 11 NDT -2.5 NFT 11.5 NOVST 7 NOVT 6 NPT 5.75 NST -3.5 NUT -11
NZDT 13 NZST 12 OMSST 7 OMST 6 PDT -7 PET -5 PETST 12 PETT 12 PGT 10 PHT 8 PKT 5
PMDT -2 PMST -3 PONT 11 PST -8 PWT 9 PYST -3 PYT -4 RET 4 SAMT 4 SCT 4 SAST 2
SBT 11 SGT 8 SLT 5.5 SRT -3 SST -11 TAHT -10 TFT 5 THA 7 TJT 5 TKT -10 TLT 9
TMT 5 TVT 12 ULAT 8 UTC 0 UYST -2 UYT -3 UZT 5 VET -4.5 VLAST 11 VLAT 10 VUT 11
WAST 2 WAT 1 WDT 9 WEDT 1 WEST 1 WET 0 WFT 12 WGST -2 WGT -3 WIB 7 WIT 9 WITA 8
WST 8 YAKST 10 YAKT 9 YAPT 10 YEKST 6 YEKT 5
`)

func parseAbbreviations(table string) map[string]int {
	words := strings.Fields(table)
	m := make(map[string]int, len(words)/2)
	for i := 0; i+1 < len(words); i += 2 {
		hours, err := strconv.ParseFloat(words[i+1], 64)
		if err != nil {
			panic(fmt.Sprintf("zone table: %s: %v", words[i], err))
		}
		m[words[i]] = int(hours * 3600)
	}
	return m
}

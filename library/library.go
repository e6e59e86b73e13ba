// Package library is what Bantam ships with, in the language it is configured in:
// jail.conf, bantam.conf and filter.d/NAME.conf, each filter with its annotated log
// NAME.log beside it. It lies below the administrator's folder; where there is
// none it is the whole configuration.
package library

import "embed"

// FS holds the files under the names they would have in /etc/bantam.
//
//go:embed jail.conf bantam.conf filter.d/*.conf
var FS embed.FS

package machine

import (
	"errors"
	"slices"
	"strings"
)

// administrating are the groups whose members may become root where nobody changed that: sudo's in Debian and its
// descendants (admin in older Ubuntu), wheel elsewhere.
var administrating = []string{"sudo", "wheel", "admin"}

// Administrators are the users of this machine who may administrate it. Its zero value has everybody be one.
type Administrators struct {
	users map[string]bool // by name, those that the machine's files know; true for those who may
}

// Has reports whether a user may administrate the machine: he has uid 0 or is in a group that may. So is a user whom
// its files do not know, as LDAP's, for nobody can tell; and where none of the groups has a member, everybody, for
// people then become root by su.
func (a Administrators) Has(user string) bool {
	may, known := a.users[user]
	return may || !known
}

func (m Machine) administrators() (Administrators, error) {
	var a Administrators
	users := map[string]bool{}
	first := map[string]string{} // users' first groups
	errUsers := m.lines("/etc/passwd", maxTable, func(line []byte) {
		// passwd(5): name:password:UID:GID:comment:home:shell
		if f := strings.Split(string(line), ":"); len(f) >= 4 && f[0] != "" {
			users[f[0]] = users[f[0]] || f[2] == "0"
			first[f[0]] = f[3]
		}
	})
	some := false
	errGroups := m.lines("/etc/group", maxTable, func(line []byte) {
		// group(5): name:password:GID:members
		f := strings.Split(string(line), ":")
		if len(f) < 4 || !slices.Contains(administrating, f[0]) {
			return
		}
		members := strings.Split(f[3], ",")
		for name, gid := range first {
			if gid == f[2] || slices.Contains(members, name) {
				some = some || !users[name]
				users[name] = true
			}
		}
	})
	if err := errors.Join(errUsers, errGroups); err != nil {
		return a, unless(err)
	}
	if some {
		a.users = users
	}
	return a, nil
}

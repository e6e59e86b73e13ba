package config

import "io/fs"

// LoadDaemon reads only what concerns the program itself, which is quick where Load has
// to read every jail. Its error is as Load's.
func LoadDaemon(dir string, lib fs.FS) (Daemon, error) {
	if dir != "" {
		if err := checkDir(dir); err != nil {
			return Daemon{}, err
		}
	}
	d, _, err := newTree(dir, lib, "library/").daemon(map[string]*Value{
		"fail2ban_version":  {Text: fail2banVersion},
		"fail2ban_confpath": {Text: dir},
	})
	return d, err
}

// ActionNames are the names by which the jail's actions are told apart, in their order.
func (j *Jail) ActionNames() []string {
	names := make([]string, len(j.Actions))
	for i, a := range j.Actions {
		names[i] = effectiveName(a)
	}
	return names
}

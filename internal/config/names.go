package config

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

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

// ActionNames are the titles by which the jail's actions are told apart, in their order.
func (j *Jail) ActionNames() []string {
	names := make([]string, len(j.Actions))
	for i, a := range j.Actions {
		names[i] = a.Title
	}
	return names
}

// TimeValue is Seconds with the error of a word that is no time as the original tells it:
// it takes the word for the name of a variable.
func TimeValue(text string) (float64, error) {
	f, err := seconds(text)
	if word := trim(text); err != nil && word != "" && strings.Trim(strings.ToLower(word), "abcdefghijklmnopqrstuvwxyz_") == "" {
		return 0, fmt.Errorf("name '%s' is not defined", word)
	}
	return f, err
}

// MatchGroups are the alternatives that journalctl's words stand for: a "+" parts them.
func MatchGroups(words []string) [][]string {
	var groups [][]string
	var group []string
	for _, word := range append(slices.Clip(words), "+") {
		if word != "+" {
			group = append(group, word)
			continue
		}
		if len(group) > 0 {
			groups = append(groups, group)
		}
		group = nil
	}
	return groups
}

// Words cuts a line into words as a shell would, with quotes and backslashes and without
// any expansion.
func Words(line string) ([]string, error) { return shellWords(line) }

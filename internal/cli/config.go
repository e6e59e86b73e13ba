package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"bantam/internal/config"
	"bantam/internal/control"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Settings by key, merged jails, files of the library",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("bantam config has no command %q", args[0])}
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("bantam config needs one of its commands: set, unset, get, show, diff, cat")}
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "cat [NAME]",
		Short: "Print a file of the library",
		Long: `Print a file of the library, which is inside the program: jail.conf, filter.d/sshd.conf.
Without a name, list them.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("bantam config cat takes one name")}
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			names, _ := a.libraryFiles()
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.configCat(strings.Join(args, "")) },
	}, &cobra.Command{
		Use:   "show [JAIL]",
		Short: "All settings; or the merged options of a jail, with where they come from",
		Long: `Without a jail, list the settings: each with its value and the file and line it was
written in, and which services are on.

With one, show what the files come to for that jail, enabled or not: each option with references and
tags replaced, and the file and line it was written in. The filter's expressions are among them.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("bantam config show takes one jail")}
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			jails, _ := config.Names(a.folder(), a.library)
			return jails, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.showSettings()
			}
			return a.configShow(args[0])
		},
	}, a.setCommand(), a.unsetCommand(), a.getCommand(), a.diffCommand())
	return cmd
}

// fileReply is a file of the library as JSON.
type fileReply struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// configCat prints a file of the library, or the names of all.
func (a *app) configCat(name string) error {
	if name == "" {
		names, err := a.libraryFiles()
		if err != nil {
			return err
		}
		if a.json {
			a.print(names)
			return nil
		}
		for _, name := range names {
			a.printf("%s\n", name)
		}
		return nil
	}
	text, err := fs.ReadFile(a.library, path.Clean(name))
	if err != nil {
		return a.noLibraryFile(name)
	}
	if a.json {
		a.print(fileReply{name, string(text)})
		return nil
	}
	_, err = a.stdout.Write(text)
	if err != nil {
		return fmt.Errorf("print %s: %w", name, err)
	}
	return nil
}

// noLibraryFile says that there is no such file, and which may be meant.
func (a *app) noLibraryFile(name string) error {
	names, err := a.libraryFiles()
	if err != nil {
		return err
	}
	hint := "bantam config cat lists them"
	stem := strings.TrimSuffix(path.Base(name), ".conf")
	for _, n := range names {
		if strings.TrimSuffix(path.Base(n), ".conf") == stem {
			hint = "did you mean " + n + "?"
		}
	}
	return control.Refuse(hint, "the library has no file %q", name)
}

func (a *app) libraryFiles() ([]string, error) {
	var names []string
	err := fs.WalkDir(a.library, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the library: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// showReply is a merged jail as JSON.
type showReply struct {
	Config  string          `json:"config,omitempty"` // empty means the library
	Jail    string          `json:"jail"`
	Options []config.Option `json:"options"`
}

func (a *app) configShow(jail string) error {
	dir := a.folder()
	options, err := config.Show(dir, a.library, jail)
	if err != nil {
		return err
	}
	if a.json {
		a.print(showReply{dir, jail, options})
		return nil
	}
	origins, width := make([]string, len(options)), 0
	for i, o := range options {
		origins[i] = "default"
		if o.File != "" {
			origins[i] = origin(o.File, o.Line)
		} else if o.Value == "" {
			origins[i] = "-"
		}
		width = max(width, utf8.RuneCountInString(origins[i]))
	}
	a.printf("[%s]\n", safe(jail))
	for i, o := range options {
		lines := strings.Split(o.Value, "\n")
		a.printf("%s\n", strings.TrimRight(fmt.Sprintf("%-*s  %s = %s", width, origins[i], safe(o.Key), safe(lines[0])), " "))
		for _, line := range lines[1:] {
			if line = strings.TrimSpace(line); line != "" {
				a.printf("%-*s      %s\n", width, "", safe(line))
			}
		}
		if o.Wrong != "" {
			a.printf("%-*s      ! %s\n", width, "", safe(o.Wrong))
		}
	}
	return nil
}

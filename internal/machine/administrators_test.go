package machine

import "testing"

func TestWhoMayAdministrate(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\nsync:x:5:0:sync:/sbin:/bin/sync\nanna:x:1000:1000::/home/anna:/bin/bash\ncustomer:x:1001:1001::/home/c:/bin/bash\nfirst:x:1002:27::/home/f:/bin/bash\n\nhalf:x\n"
	const group = "root:x:0:\nsudo:x:27:anna,gone\nusers:x:100:customer\nadm:x:4:customer\n"
	for _, c := range []struct {
		name, passwd, group string
		may, not            []string
	}{
		{"by uid, by group and by first group", passwd, group, []string{"root", "toor", "anna", "first"}, []string{"customer", "sync"}},
		{"whom the files do not know", passwd, group, []string{"ldap", "half", "gone", ""}, nil},
		{"wheel", "a:x:1:1:::\nb:x:2:2:::\n", "wheel:x:10:a\n", []string{"a"}, []string{"b"}},
		{"nobody is in a group", passwd, "root:x:0:\nwheel:x:10:\n", []string{"root", "customer"}, nil},
		{"no groups can be read", passwd, "", []string{"customer"}, nil},
		{"no users can be read", "", group, []string{"customer"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{}
			if c.passwd != "" {
				files["etc/passwd"] = c.passwd
			}
			if c.group != "" {
				files["etc/group"] = c.group
			}
			a, err := tree(t, files).Administrators()
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range c.may {
				if !a.Has(name) {
					t.Errorf("%q may not administrate it", name)
				}
			}
			for _, name := range c.not {
				if a.Has(name) {
					t.Errorf("%q may administrate it", name)
				}
			}
		})
	}
	if !(Administrators{}).Has("anybody") {
		t.Error("as long as nothing is known somebody may not")
	}
}

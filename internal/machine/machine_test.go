package machine

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// noon is when the tests look.
var noon = time.Unix(1_740_909_600, 0)

// tree makes a machine of files. A text that begins with "-> " is where a link goes.
func tree(t testing.TB, files map[string]string) Machine {
	t.Helper()
	m := Machine{Root: t.TempDir()}
	for name, text := range files {
		path := filepath.Join(m.Root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, is := strings.CutPrefix(text, "-> "); is {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// merge is several lists of files as one.
func merge(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, files := range all {
		maps.Copy(out, files)
	}
	return out
}

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestGateways(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the table is that of a machine with the other order of bytes")
	}
	m := tree(t, map[string]string{
		"proc/net/route": "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
			"eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
			"eth1\t00000000\t026433C6\t0003\t0\t0\t9\t00000000\t0\t0\t0\n" +
			"eth0\t00000000\t010200C0\t0003\t0\t0\t7\t00000000\t0\t0\t0\n" + // the same again
			"eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" + // no gateway
			"eth0\t000000C6\t050200C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n" + // no default
			"eth0\t00000000\t090200C0\t0203\t0\t0\t0\t00000000\t0\t0\t0\n" + // rejects
			"eth0\t00000000\tzz0200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\nhalf a li",
		"proc/net/ipv6_route": "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n" +
			"00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000003 00000000 00000003     eth0\n" +
			"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n",
	})
	got, err := m.Gateways()
	if want := addrs("192.0.2.1", "198.51.100.2", "fe80::1"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("gateways %v, %v, want %v", got, err, want)
	}
}

func TestResolvers(t *testing.T) {
	resolved := "# made by systemd-resolved\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []netip.Addr
	}{
		{"a plain file", map[string]string{"etc/resolv.conf": "search example.org\nnameserver 192.0.2.53\n nameserver\t2001:db8::53 \nnameserver x\nnameserver\n"}, addrs("192.0.2.53", "2001:db8::53")},
		{"behind systemd-resolved", map[string]string{"etc/resolv.conf": "nameserver 127.0.0.53\n", "run/systemd/resolve/resolv.conf": resolved}, addrs("192.0.2.53", "2001:db8::53")},
		{"systemd-resolved says nothing", map[string]string{"etc/resolv.conf": "nameserver 127.0.0.53\n"}, addrs("127.0.0.53")},
		{"another one of the machine itself", map[string]string{"etc/resolv.conf": "nameserver 127.0.0.1\n", "run/systemd/resolve/resolv.conf": resolved}, addrs("127.0.0.1")},
		{"no file", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := tree(t, c.files).Resolvers(); err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("resolvers %v, %v, want %v", got, err, c.want)
			}
		})
	}
}

func TestAddressesAreTheKernels(t *testing.T) {
	got, err := Machine{}.Addresses()
	if err != nil {
		t.Fatal(err)
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		found := false
		for _, p := range got {
			found = found || p.String() == a.String()
		}
		if !found {
			t.Errorf("%s is missing in %v", a, got)
		}
	}
	if got, err := tree(t, nil).Addresses(); got != nil || err != nil {
		t.Errorf("a tree has the addresses %v, %v", got, err)
	}
}

// proc is a process as a tree has it.
func proc(pid, parent, uid int, name, cmdline string) map[string]string {
	dir := fmt.Sprintf("proc/%d/", pid)
	return map[string]string{
		dir + "status":  fmt.Sprintf("Name:\t%s\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t%d\nPid:\t%d\nPPid:\t%d\nTracerPid:\t0\nUid:\t%d\t%d\t%d\t%d\n", name, pid, pid, parent, uid, uid, uid, uid),
		dir + "cmdline": cmdline,
		dir + "comm":    name + "\n",
		dir + "exe":     "-> /usr/sbin/" + name,
		dir + "stat":    fmt.Sprintf("%d (a) b) S %d%s 360000 0 0\n", pid, parent, strings.Repeat(" 0", 17)), // an hour after the boot
		"proc/stat":     fmt.Sprintf("cpu 1 2 3\nbtime %d\nprocesses 9\n", noon.Add(-2*time.Hour).Unix()),
	}
}

// sockets is proc/net/tcp with lines of "LOCAL REMOTE STATE INODE".
func sockets(lines ...string) string {
	out := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	for i, line := range lines {
		f := strings.Fields(line)
		out += fmt.Sprintf("%4d: %s %s %s 00000000:00000000 00:00000000 00000000     0        0 %s 1 0000000000000000 100 0 0 10 0\n", i, tableAddr(f[0]), tableAddr(f[1]), f[2], f[3])
	}
	return out
}

// tableAddr is an address and port as the kernel's tables have them.
func tableAddr(text string) string {
	a := netip.MustParseAddrPort(text)
	out := ""
	for b := range slices.Chunk(a.Addr().AsSlice(), 4) {
		out += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(b))
	}
	return fmt.Sprintf("%s:%04X", out, a.Port())
}

func TestListeners(t *testing.T) {
	m := tree(t, merge(
		proc(10, 1, 0, "nginx", "nginx: master process\x00"), proc(11, 10, 33, "nginx", "nginx: worker\x00"), proc(20, 1, 0, "bad\xffname", ""),
		map[string]string{
			"proc/10/fd/6":   "-> socket:[101]",
			"proc/10/fd/7":   "-> /dev/null",
			"proc/11/fd/6":   "-> socket:[101]",
			"proc/20/fd/3":   "-> socket:[102]",
			"proc/20/fd/4":   "-> socket:[999999999999999999999999]",
			"proc/net/tcp":   sockets("0.0.0.0:80 0.0.0.0:0 0A 101", "127.0.0.1:631 0.0.0.0:0 0A 103", "192.0.2.1:80 203.0.113.9:4000 01 104"),
			"proc/net/tcp6":  sockets("[::]:22 [::]:0 0A 105", "[::1]:25 [::]:0 0A 106"),
			"proc/net/udp":   sockets("192.0.2.1:53 0.0.0.0:0 07 102", "192.0.2.1:40000 203.0.113.53:53 01 107", "127.0.0.53:53 0.0.0.0:0 07 108"),
			"proc/net/udp6":  "rubbish\n" + strings.Repeat("x ", 20) + "\n",
			"proc/self":      "-> 11",
			"proc/loadavg":   "0",
			"proc/20/status": "Name:\tbad\xffname\nPPid:\t1\nUid:\t0\t0\t0\t0\n",
		}))
	got, err := m.Listeners()
	want := []Listener{
		{"tcp", netip.MustParseAddrPort("[::]:22"), 0, ""},
		{"tcp", netip.MustParseAddrPort("0.0.0.0:80"), 10, "nginx"},
		{"udp", netip.MustParseAddrPort("192.0.2.1:53"), 20, "bad\xffname"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("listeners %v, %v, want %v", got, err, want)
	}
}

// The real kernel has the same form.
func TestThisProcessListens(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6"} {
		l, err := net.Listen(network, map[string]string{"tcp4": "0.0.0.0:0", "tcp6": "[::]:0"}[network])
		if err != nil {
			t.Skipf("cannot listen: %v", err)
		}
		defer l.Close()
		found := false
		all, err := Machine{}.Listeners()
		for _, one := range all {
			if one.Protocol == "tcp" && one.Addr.Port() == uint16(l.Addr().(*net.TCPAddr).Port) {
				found = one.PID == os.Getpid() && one.Program != ""
			}
		}
		if err != nil || !found {
			t.Errorf("%s of this process is not among %v, %v", l.Addr(), all, err)
		}
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
	}{
		{"one hierarchy", map[string]string{
			"sys/fs/cgroup/system.slice/ssh.service/cgroup.events":                                  "populated 1\nfrozen 0\n",
			"sys/fs/cgroup/system.slice/oneshot.service/cgroup.events":                              "populated 0\nfrozen 0\n",
			"sys/fs/cgroup/system.slice/system-getty.slice/getty@tty1.service/cgroup.events":        "populated 1\n",
			"sys/fs/cgroup/system.slice/_cgroup.service/cgroup.events":                              "populated 1\n",
			"sys/fs/cgroup/system.slice/dbus.socket/cgroup.events":                                  "populated 1\n",
			"sys/fs/cgroup/system.slice/a.slice/b.slice/c.slice/d.slice/deep.service/cgroup.events": "populated 1\n",
		}},
		{"the older ones", map[string]string{
			"sys/fs/cgroup/systemd/system.slice/ssh.service/cgroup.procs":                           "812\n",
			"sys/fs/cgroup/systemd/system.slice/oneshot.service/cgroup.procs":                       "",
			"sys/fs/cgroup/systemd/system.slice/system-getty.slice/getty@tty1.service/cgroup.procs": "9\n",
			"sys/fs/cgroup/systemd/system.slice/cgroup.service/cgroup.procs":                        "",
			"sys/fs/cgroup/systemd/system.slice/cgroup.service/below/cgroup.procs":                  "77\n",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := tree(t, c.files).Units()
			if want := []string{"cgroup.service", "getty@tty1.service", "ssh.service"}; err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("units %v, %v, want %v", got, err, want)
			}
		})
	}
}

// The files are those of Podman 4.3.1.
func TestPodmansContainers(t *testing.T) {
	const (
		folder  = "var/lib/containers/storage/overlay-containers/"
		runs    = "38a062a59120f2322af2e70ca8f6e3892c3dc1b4dedbd6f5cd1318b24909ec56"
		journal = "0ae7cd656a9d7dd7921e56d8d7534aaec59a09b6214dc25191be1834d57cca26"
		ended   = "a2df016175c71310a61df1aa4d765ab7d4718086a07412d1805ada0f344c3e9b"
	)
	entry := func(id, name, image string) string {
		return `{"id":"` + id + `","names":["` + name + `"],"image":"` + ended + `","layer":"` + journal +
			`","metadata":"{\"image-name\":\"` + image + `\",\"image-id\":\"` + ended + `\",\"name\":\"` + name + `\",\"created-at\":1795318612}","created":"2026-11-22T03:36:52.275787372Z","flags":{"MountLabel":"","ProcessLabel":""}}`
	}
	files := map[string]string{
		folder + "containers.json": "[" + strings.Join([]string{
			entry(runs, "sonarr", "docker.io/linuxserver/sonarr:latest"), entry(journal, "web", "docker.io/library/nginx:1.27"), entry(ended, "old", "x"),
			entry("../../../../../etc", "climbs", "x"), `{"id":"ab","names":["crio"],"metadata":"no JSON"}`, `{"id":"ab"}`,
		}, ",") + "]",
		folder + runs + "/userdata/ctr.log": "2026-11-22T03:36:52.275787372+00:00 stdout F hello\n",
		"proc/31/status":                    "Name:\tsonarr\nPPid:\t1\nUid:\t0\t0\t0\t0\n",
	}
	for id, pid := range map[string]string{runs: "31", journal: "31\n", ended: "32"} {
		files["run/containers/storage/overlay-containers/"+id+"/userdata/pidfile"] = pid
	}
	got, err := tree(t, files).Containers()
	want := []Container{
		{Name: "sonarr", Image: "docker.io/linuxserver/sonarr:latest", Log: "/" + folder + runs + "/userdata/ctr.log"},
		{Name: "web", Image: "docker.io/library/nginx:1.27"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("containers\n%+v, %v, want\n%+v", got, err, want)
	}
	if _, err := tree(t, map[string]string{folder + "containers.json": "[{"}).Containers(); err == nil || !strings.Contains(err.Error(), "containers.json") {
		t.Errorf("of a list that is cut off: %v", err)
	}
}

func TestContainers(t *testing.T) {
	web := `{"ID":"ab","Name":"/web","LogPath":"/srv/docker/containers/ab/ab-json.log","State":{"Running":true,"Pid":9},
		"Config":{"Image":"nginx:1.27","Labels":{"traefik.enable":"true"}},
		"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}],"443/tcp":null,"x/tcp":[{"HostPort":"1"}],"53/udp":[{"HostIp":"","HostPort":"53"}]}}}`
	m := tree(t, map[string]string{
		"etc/docker/daemon.json":                       `{"data-root": "/srv/docker"}`,
		"srv/docker/containers/ab/config.v2.json":      web,
		"srv/docker/containers/ab/hostconfig.json":     `{"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"99"}]}}`,
		"srv/docker/containers/cd/config.v2.json":      `{"Name":"/gone","State":{"Running":false}}`,
		"srv/docker/containers/ef/config.v2.json":      `{"Name":"/early","State":{"Running":true},"Config":{"Image":"a"}}`,
		"srv/docker/containers/ef/hostconfig.json":     `{"PortBindings":{"25/tcp":[{"HostIp":"192.0.2.1","HostPort":"2525"},{"HostPort":""}]}}`,
		"srv/docker/containers/gh/config.v2.json":      `{"Name":`,
		"srv/docker/containers/empty/other":            "",
		"var/lib/docker/containers/zz/config.v2.json":  web,
		"srv/docker/containers/a file in place of one": "",
	})
	got, err := m.Containers()
	want := []Container{
		{Name: "early", Image: "a", Ports: []Published{{"tcp", netip.MustParseAddrPort("192.0.2.1:2525"), 25}}},
		{
			Name: "web", Image: "nginx:1.27", Labels: map[string]string{"traefik.enable": "true"}, Log: "/srv/docker/containers/ab/ab-json.log",
			Ports: []Published{
				{"udp", netip.MustParseAddrPort("0.0.0.0:53"), 53},
				{"tcp", netip.MustParseAddrPort("0.0.0.0:8080"), 80},
				{"tcp", netip.MustParseAddrPort("[::]:8080"), 80},
			},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("containers\n%+v, want\n%+v", got, want)
	}
	if err == nil || !strings.Contains(err.Error(), "containers/gh") {
		t.Errorf("the error is %v; it should name the one that cannot be read", err)
	}
}

// Whatever stands in the place of a file, looking ends, and finds what else there is.
func TestStrangeFiles(t *testing.T) {
	m := tree(t, merge(proc(5, 1, 0, "sshd", "sshd: root@pts/0"), map[string]string{
		"etc/resolv.conf":                            "-> resolv.conf",
		"proc/self":                                  "-> 5",
		"run/utmp/a/folder":                          "",
		"proc/net/route":                             "-> ../../etc",
		"sys/fs/cgroup/system.slice/ring.slice":      "-> .",
		"sys/fs/cgroup/system.slice/x.service":       "a file",
		"run/systemd/sessions/1":                     strings.Repeat("x", 70_000),
		"run/systemd/sessions/2":                     "USER=root\nREMOTE_HOST=192.0.2.7\nSERVICE=sshd\nLEADER=5\nSTATE=active\n",
		"proc/5/environ":                             "SSH_CONNECTION=a b c\x00",
		"var/lib/docker/containers/l/config.v2.json": "-> config.v2.json",
	}))
	for _, name := range []string{"var/log/wtmp", "proc/net/tcp", "run/systemd/sessions/3", "var/lib/docker/containers/p/config.v2.json", "proc/5/fd"} {
		path := filepath.Join(m.Root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := m.Resolvers(); len(got) != 0 || err == nil {
		t.Errorf("resolvers %v, %v", got, err)
	}
	if got, err := m.Gateways(); len(got) != 0 || err == nil {
		t.Errorf("gateways %v, %v", got, err)
	}
	if got, err := m.Listeners(); len(got) != 0 || err == nil {
		t.Errorf("listeners %v, %v", got, err)
	}
	if got, _ := m.Units(); len(got) != 0 {
		t.Errorf("units %v", got)
	}
	if got, err := m.Containers(); len(got) != 0 || err == nil {
		t.Errorf("containers %v, %v", got, err)
	}
	if got, err := m.Sessions(noon); len(got) != 1 || err == nil {
		t.Errorf("sessions %v, %v, want the one that can be read", got, err)
	}
}

// A file of a gigabyte, all holes, is read up to the bound.
func TestLargeFiles(t *testing.T) {
	m := tree(t, map[string]string{"run/utmp": "", "etc/resolv.conf": "", "proc/net/tcp": "", "var/lib/docker/containers/a/config.v2.json": ""})
	for _, name := range []string{"run/utmp", "etc/resolv.conf", "proc/net/tcp", "var/lib/docker/containers/a/config.v2.json"} {
		if err := os.Truncate(filepath.Join(m.Root, name), 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _ = m.Resolvers()
	_, _ = m.Containers()
	_, _ = m.Listeners()
	if got, err := m.Sessions(noon); len(got) != 0 {
		t.Errorf("sessions %v, %v", got, err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d MB were taken for it", n>>20)
	}
}

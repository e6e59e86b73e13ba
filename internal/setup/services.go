package setup

import "regexp"

// A service is something that is protected by jails of the library, and how it shows on a machine.
type service struct {
	title string
	// jails are those that are proposed if it is there and writes one of their logs, the first one first.
	jails []string
	// units are systemd's, without .service; programs the processes that listen; images parts of containers' images.
	units, programs, images []string
	// form is how a line of its log looks, nil if that is not known; asked is what to ask where none does.
	form  *regexp.Regexp
	asked string
}

// Lines of access logs as their filters read them. Apache's and nginx's combined form begins the same, with or without
// the name of a virtual host: mod_log_config's documentation of LogFormat, nginx' of log_format.
var (
	combined = regexp.MustCompile(`^\S+ .*\[\d+/\w+/\d+:[\d:]+ [+-]\d+\] "`)
	object   = regexp.MustCompile(`^\s*\{.*\}\s*$`)
)

// services are in the order in which they are shown. Jails that are not named here are proposed if their log is read
// by no other jail and has been written to.
var services = []service{
	{title: "ssh", jails: []string{"sshd"}, units: []string{"ssh", "sshd"}, programs: []string{"sshd"}},
	{title: "dropbear", jails: []string{"dropbear"}, units: []string{"dropbear"}, programs: []string{"dropbear"}},
	{
		title: "nginx", jails: []string{"nginx-http-auth", "nginx-botsearch", "nginx-bad-request", "nginx-limit-req"},
		units: []string{"nginx", "openresty"}, programs: []string{"nginx"}, images: []string{"nginx", "openresty"},
		form: combined, asked: "is its log_format combined?",
	},
	{
		title: "Apache", jails: []string{"apache-auth", "apache-overflows", "apache-nohome", "apache-botsearch", "apache-shellshock"},
		units: []string{"apache2", "httpd"}, programs: []string{"apache2", "httpd"}, images: []string{"httpd"},
		form: combined, asked: "is its LogFormat combined?",
	},
	{title: "lighttpd", jails: []string{"lighttpd-auth"}, units: []string{"lighttpd"}, programs: []string{"lighttpd"}},
	{
		title: "Caddy", jails: []string{"caddy-auth"}, units: []string{"caddy"}, programs: []string{"caddy"}, images: []string{"caddy"},
		form: object, asked: "is its log's format json?",
	},
	{title: "HAProxy", jails: []string{"haproxy-http-auth"}, units: []string{"haproxy"}, programs: []string{"haproxy"}, images: []string{"haproxy"}},
	{title: "Traefik", jails: []string{"traefik-auth"}, units: []string{"traefik"}, programs: []string{"traefik"}, images: []string{"traefik"}},
	{title: "Postfix", jails: []string{"postfix", "postfix-sasl"}, units: []string{"postfix", "postfix@-"}, programs: []string{"master"}},
	{title: "Exim", jails: []string{"exim"}, units: []string{"exim4", "exim"}, programs: []string{"exim4", "exim"}},
	{title: "Dovecot", jails: []string{"dovecot"}, units: []string{"dovecot"}, programs: []string{"dovecot"}, images: []string{"dovecot"}},
	{title: "sendmail", jails: []string{"sendmail-auth", "sendmail-reject"}, units: []string{"sendmail"}, programs: []string{"sendmail", "sendmail-mta"}},
	{title: "OpenSMTPD", jails: []string{"opensmtpd"}, units: []string{"opensmtpd", "smtpd"}, programs: []string{"smtpd"}},
	{title: "Courier", jails: []string{"courier-auth", "courier-smtp"}, units: []string{"courier", "courier-imap", "courier-mta"}, programs: []string{"couriertcpd"}},
	{title: "Cyrus", jails: []string{"cyrus-imap"}, units: []string{"cyrus-imapd"}, programs: []string{"cyrmaster"}},
	{title: "Pure-FTPd", jails: []string{"pure-ftpd"}, units: []string{"pure-ftpd"}, programs: []string{"pure-ftpd"}},
	{title: "ProFTPD", jails: []string{"proftpd"}, units: []string{"proftpd"}, programs: []string{"proftpd"}},
	{title: "vsftpd", jails: []string{"vsftpd"}, units: []string{"vsftpd"}, programs: []string{"vsftpd"}},
	{title: "MySQL", jails: []string{"mysqld-auth"}, units: []string{"mysql", "mysqld", "mariadb"}, programs: []string{"mysqld", "mariadbd"}},
	{title: "PostgreSQL", jails: []string{"postgresql"}, units: []string{"postgresql"}, programs: []string{"postgres"}},
	{title: "Webmin", jails: []string{"webmin-auth"}, units: []string{"webmin"}, programs: []string{"miniserv.pl"}},
	{title: "Cockpit", jails: []string{"cockpit"}, units: []string{"cockpit"}, programs: []string{"cockpit-tls"}},
	{title: "Proxmox", jails: []string{"proxmox"}, units: []string{"pveproxy", "pvedaemon"}, programs: []string{"pveproxy"}},
	{title: "Zimbra", jails: []string{"zimbra"}, units: []string{"zimbra"}},
	{title: "mailcow", jails: []string{"mailcow"}, images: []string{"mailcow/phpfpm"}},
	{title: "Mailu", jails: []string{"mailu-admin"}, images: []string{"mailu/admin"}},
	{title: "Nextcloud", jails: []string{"nextcloud"}, images: []string{"nextcloud"}},
	{title: "Vaultwarden", jails: []string{"vaultwarden"}, units: []string{"vaultwarden"}, programs: []string{"vaultwarden"}, images: []string{"vaultwarden"}},
	{title: "Home Assistant", jails: []string{"home-assistant"}, units: []string{"home-assistant"}, images: []string{"home-assistant"}},
	{title: "Gitea", jails: []string{"gitea"}, units: []string{"gitea", "forgejo"}, programs: []string{"gitea"}, images: []string{"gitea"}},
	{title: "Grafana", jails: []string{"grafana"}, units: []string{"grafana-server"}, programs: []string{"grafana"}, images: []string{"grafana/grafana"}},
}

// byHand are jails that nobody gets unasked: they open ports, ask other machines, count for other jails, or ban for what is no
// attempt to get in.
var byHand = map[string]bool{
	"pass2allow-ftp": true, "apache-fakegooglebot": true, "recidive": true, "sudo": true, "su": true, "polkit": true,
	"auditd": true, "selinux-ssh": true, "iptables-scan": true, "portscan": true, "wireguard": true, "named-refused": true,
	"qmail-rbl": true,
}

^[A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \S+ proftpd\[\d+\]:? \S+ \(\S+\[(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|[\w.-]+)\]\)[: -]+ USER .*: no such user found from \S+ \[\S+\] to \S+:\d+\s*$
^[A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \S+ proftpd\[\d+\]:? \S+ \(\S+\[(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|[\w.-]+)\]\)[: -]+ USER .* \(Login failed\): .*$
^[A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \S+ proftpd\[\d+\]:? \S+ \(\S+\[(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|[\w.-]+)\]\)[: -]+ SECURITY VIOLATION: .* login attempted\.?\s*$
^[A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \S+ proftpd\[\d+\]:? \S+ \(\S+\[(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|[\w.-]+)\]\)[: -]+ Maximum login attempts \(\d+\) exceeded.*$

^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} fail2ban\.actions\s*\[\d+\]: (?:NOTICE|WARNING)\s+\[[^\]]+\] Ban (?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|[\w.-]+)\s*$

^[A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \S+ webmin\[\d+\]: Non-existent login as .+ from (?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|[\w.-]+)$
^[A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \S+ webmin\[\d+\]: Invalid login as .+ from (?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|[\w.-]+)$

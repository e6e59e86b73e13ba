package report

// lastCategory is the highest number in AbuseIPDB's public list of categories.
const lastCategory = 23

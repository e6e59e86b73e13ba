package config

// Seconds reads a length of time as the configuration writes it: "600", "10m",
// "1d 12h", "-1". The error says what is not understood.
func Seconds(text string) (float64, error) { return seconds(text) }
